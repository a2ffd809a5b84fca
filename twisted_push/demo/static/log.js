// The log of the site, for the administrator: what happens appears, unless it is paused.

import { ask, byId, field, hasShape, row, showTime } from "./page.js";
import { onGap, push } from "./live.js";

const CHANNEL = "watchdog";
const MOST = 200;
const LEVELS = ["info", "notice", "warning", "error"];
const ENTRY = { id: "number", at: "number", level: "string", kind: "string", who: "string", text: "string" };

const waiting = []; // entries that came while it was paused
let isPaused = false;

function isShown(entry) {
  return LEVELS.indexOf(entry.dataset.level) >= LEVELS.indexOf(byId("log-level").value);
}

function applyFilter() {
  const entries = [...byId("entries").children];
  for (const entry of entries) entry.hidden = !isShown(entry);
  byId("entries-empty").hidden = entries.some((entry) => !entry.hidden);
}

function isThere({ id }) {
  return document.querySelector(`#entries [data-entry="${Number(id)}"]`) !== null;
}

function showEntry(data) {
  if (!hasShape(data, ENTRY) || isThere(data)) return;
  const { level, kind, who, text } = data;
  const made = row("entry-template", { level, kind, who, text });
  made.dataset.entry = data.id;
  made.dataset.level = level;
  made.classList.add("new");
  showTime(field(made, "at"), data.at);
  const list = byId("entries");
  const before = [...list.children].find((child) => Number(child.dataset.entry) < data.id);
  list.insertBefore(made, before ?? null);
  while (list.children.length > MOST) list.lastElementChild.remove();
  applyFilter();
}

function showPause() {
  const more = waiting.length ? ` (${waiting.length} new)` : "";
  byId("log-pause").textContent = isPaused ? `Go on${more}` : "Pause";
}

function take(data) {
  if (!isPaused) {
    showEntry(data);
    return;
  }
  if (isThere(data) || waiting.some(({ id }) => id === data.id)) return;
  waiting.push(data);
  if (waiting.length > MOST) waiting.shift();
  showPause();
}

async function catchUp() {
  const { ok, body } = await ask("/log.json");
  if (ok) body.entries.forEach(take);
}

export function setUpLog() {
  if (!byId("watchdog")) return;
  byId("log-level").addEventListener("change", applyFilter);
  byId("log-pause").addEventListener("click", () => {
    isPaused = !isPaused;
    for (const data of waiting.splice(0)) showEntry(data);
    showPause();
  });
  push?.on(CHANNEL, take);
  onGap(CHANNEL, catchUp);
}
