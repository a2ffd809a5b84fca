// The chat: lines, who is online, and who is typing.
//
// A line is a form that goes to the CMS, which keeps it and publishes it. Typing is a call (`rpc`)
// to the push server, which hands it to the CMS: that decides whether the others are told.

import { ask, byId, countUnseen, field, hasShape, page, row, showAvatar, showTime } from "./page.js";
import { onGap, push } from "./live.js";

const CHANNEL = "chat:lobby";
const LINE = { id: "number", user: "string", name: "string", text: "string", sent_at: "number" };
const MOST_LINES = 100;
const TELL_EVERY = 2000; // milliseconds, while somebody types
const TYPES_FOR = 5000; // since it was told last

const typists = new Map(); // user: {name, timer}

// -- Lines -----------------------------------------------------------------------------------

function showLine(line) {
  if (!hasShape(line, LINE) || document.querySelector(`[data-line="${Number(line.id)}"]`)) return;
  stopTyping(line.user);
  const stays = line.user !== page.user && !isAtTheEnd();
  const made = row("line-template", { name: line.name, text: line.text });
  made.dataset.line = line.id;
  made.dataset.whose = line.user === page.user ? "mine" : "theirs";
  showAvatar(field(made, "initial"), line.name);
  showTime(field(made, "sent"), line.sent_at);
  made.classList.add("new");
  const list = byId("lines");
  // In their order, also if one was caught up with another.
  const after = [...list.children].find((child) => Number(child.dataset.line) > line.id);
  list.insertBefore(made, after ?? null);
  while (list.children.length > MOST_LINES) list.firstElementChild.remove();
  byId("lines-empty").hidden = true;
  countUnseen();
  if (!stays) scrollDown();
}

/** Whether the reader sees the last line, and not what was said before. */
function isAtTheEnd() {
  const { scrollTop, clientHeight, scrollHeight } = byId("lines-box");
  return scrollTop + clientHeight > scrollHeight - 40;
}

function scrollDown() {
  byId("lines-box").scrollTop = byId("lines-box").scrollHeight;
}

async function catchUp() {
  const { ok, body } = await ask("/chat.json");
  if (ok) body.lines.forEach(showLine);
}

// -- Typing ----------------------------------------------------------------------------------

function showTypists() {
  const names = [...typists.values()].map(({ name }) => name);
  const text = names.length ? `${names.join(" and ")} ${names.length > 1 ? "are" : "is"} typing` : "";
  if (byId("typing").textContent !== text) byId("typing").textContent = text;
  byId("typing").classList.toggle("shown", names.length > 0);
}

function stopTyping(user) {
  clearTimeout(typists.get(user)?.timer);
  if (typists.delete(user)) showTypists();
}

function showTyping({ user, name }) {
  if (user === page.user) return;
  clearTimeout(typists.get(user)?.timer);
  typists.set(user, { name, timer: setTimeout(() => stopTyping(user), TYPES_FOR) });
  showTypists();
}

function tellTyping(input) {
  let told = 0;
  input.addEventListener("input", () => {
    if (!input.value.trim() || Date.now() - told < TELL_EVERY) return;
    told = Date.now();
    push?.rpc("typing").catch(() => {}); // The chat does not depend on it.
  });
  input.form.addEventListener("sent", () => { told = 0; });
}

// -- Who is online ---------------------------------------------------------------------------

function showMember(member, online) {
  const state = online ? "online" : "offline";
  if (member.dataset.state === state) return;
  member.dataset.state = state;
  field(member, "state").textContent = state;
  if (!online) stopTyping(member.dataset.member);
}

function showOnline() {
  const online = new Set(push.online);
  if (push.state === "connected") online.add(page.user);
  for (const member of byId("members").children) showMember(member, online.has(member.dataset.member));
}

export function setUpChat() {
  if (!byId("chat")) return;
  byId("lines-empty").hidden = byId("lines").children.length > 0;
  scrollDown();
  tellTyping(byId("chat-text"));
  if (!push) return;
  push.on(CHANNEL, (data) => {
    if (data?.type === "line") showLine(data);
    if (data?.type === "typing" && hasShape(data, { user: "string", name: "string" })) showTyping(data);
  });
  onGap(CHANNEL, catchUp);
  push.onPresence(showOnline);
  push.onState(showOnline);
  showOnline();
}
