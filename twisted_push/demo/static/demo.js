// The pages of the demo CMS: what they do with what the push server sends.
//
// Whatever comes from outside is put into the page with textContent, and never as HTML.

import { PushConnection } from "./connection.js";

const ARTICLE_CHANNEL = "article:1";
const KICKED = 3503;
const INVALID_TOKEN = 3500;
const LOG_LENGTH = 60;
const TOAST_SECONDS = 9;
const PEOPLE_SECONDS = 3;

const page = document.body.dataset;
const byId = (id) => document.getElementById(id);

function element(tag, className, text) {
  const made = document.createElement(tag);
  if (className) made.className = className;
  if (text !== undefined) made.textContent = text;
  return made;
}

/** A round initial; the style sheet has colors for some names. */
function showAvatar(avatar, name) {
  avatar.className = `avatar small avatar-${/^[a-z]+$/i.test(name) ? name.toLowerCase() : "other"}`;
  avatar.textContent = name.slice(0, 1);
}

// -- Time ------------------------------------------------------------------------------------

const relative = new Intl.RelativeTimeFormat("en", { numeric: "auto" });

function ago(seconds) {
  const passed = Date.now() / 1000 - seconds;
  if (passed < 10) return "just now";
  if (passed < 60) return relative.format(-Math.round(passed), "second");
  if (passed < 3600) return relative.format(-Math.round(passed / 60), "minute");
  if (passed < 86400) return relative.format(-Math.round(passed / 3600), "hour");
  return relative.format(-Math.round(passed / 86400), "day");
}

function showTime(time) {
  const seconds = Number(time.dataset.since);
  if (!time.dataset.since || !Number.isFinite(seconds)) return;
  const text = ago(seconds);
  const moment = new Date(seconds * 1000);
  if (Number.isNaN(moment.getTime())) return;
  if (time.textContent !== text) time.textContent = text;
  time.dateTime = moment.toISOString();
  time.title = moment.toLocaleString();
}

function showTimes() {
  document.querySelectorAll("time[data-since]").forEach(showTime);
}

// -- The log ---------------------------------------------------------------------------------

function logLine(kind, channel, text) {
  const list = byId("log");
  if (!list) return;
  byId("log-empty").hidden = true;
  const line = element("li", `log-line ${kind}`);
  const now = new Date();
  line.append(element("span", "log-time", now.toLocaleTimeString("en-GB")));
  const what = element("span", "log-what");
  if (channel) what.append(element("b", "", channel), " · ");
  what.append(text);
  line.append(what);
  list.prepend(line);
  while (list.children.length > LOG_LENGTH) list.lastElementChild.remove();
}

// -- The article -----------------------------------------------------------------------------

let savedAt = Number(byId("article-time")?.dataset.since || 0);
let touched = false; // whether the editor holds something that was not saved

function isArticle(data) {
  return data !== null && typeof data === "object" && typeof data.title === "string" &&
    typeof data.body === "string" && typeof data.author === "string" && Number.isFinite(data.saved_at);
}

function showArticle(data) {
  if (!byId("article") || !isArticle(data) || data.saved_at <= savedAt) return;
  savedAt = data.saved_at;
  const changed = [];
  const title = byId("article-title");
  if (title.textContent !== data.title) changed.push(title);
  title.textContent = data.title;
  document.title = `${data.title} · twisted_push demo`;
  byId("article-author").textContent = data.author;
  showAvatar(byId("article-initial"), data.author);
  byId("article-time").dataset.since = data.saved_at;
  showTime(byId("article-time"));
  changed.push(...showParagraphs(byId("article-body"), data.body));
  for (const part of changed) highlight(part);
  announce(`${data.author} saved a new version.`);
  showInEditor(data);
}

/** Replace the paragraphs; return those that are new. */
function showParagraphs(box, text) {
  const before = new Set(Array.from(box.children, (child) => child.textContent));
  const parts = text.split("\n\n").map((part) => part.trim()).filter(Boolean);
  const paragraphs = parts.map((part) => element("p", "", part));
  box.replaceChildren(...paragraphs);
  return paragraphs.filter((paragraph) => !before.has(paragraph.textContent));
}

function highlight(part) {
  part.classList.remove("changed");
  void part.offsetWidth; // let the animation start over
  part.classList.add("changed");
}

function announce(text) {
  const box = byId("announcement");
  box.textContent = text;
  box.classList.add("shown");
  clearTimeout(announce.timer);
  announce.timer = setTimeout(() => box.classList.remove("shown"), 12000);
}

function showInEditor(data) {
  const editor = byId("editor");
  if (!editor) return;
  if (touched) {
    note(editor, "warning", "A newer version was saved while you are writing. Saving replaces it.");
    return;
  }
  editor.elements.title.value = data.title;
  editor.elements.body.value = data.body;
}

/** Ask the CMS for the article: something may have been saved before we were connected. */
async function catchUp() {
  if (!byId("article")) return;
  const { ok, body } = await ask("/article.json");
  if (ok) showArticle(body);
}

// -- Messages --------------------------------------------------------------------------------

function toast(author, text, isPrivate) {
  const box = element("div", "toast");
  const words = element("div", "toast-text");
  words.append(element("strong", "", isPrivate ? `${author} to you only` : author), element("p", "", text));
  const close = element("button", "toast-close", "×");
  close.type = "button";
  close.setAttribute("aria-label", "Dismiss the message");
  close.addEventListener("click", () => box.remove());
  const avatar = element("span");
  avatar.setAttribute("aria-hidden", "true");
  showAvatar(avatar, author);
  box.append(avatar, words, close);
  byId("toasts").append(box);
  while (byId("toasts").children.length > 4) byId("toasts").firstElementChild.remove();
  dismissLater(box);
}

/** Remove a toast after a while, but not under the pointer or the focus. */
function dismissLater(box) {
  let timer;
  const start = () => {
    clearTimeout(timer);
    timer = setTimeout(() => box.remove(), TOAST_SECONDS * 1000);
  };
  const stop = () => clearTimeout(timer);
  box.addEventListener("pointerenter", stop);
  box.addEventListener("pointerleave", start);
  box.addEventListener("focusin", stop);
  box.addEventListener("focusout", start);
  start();
}

function isMessage(data) {
  return data !== null && typeof data === "object" && typeof data.text === "string" &&
    typeof data.author === "string";
}

// -- Requests to the CMS ---------------------------------------------------------------------

async function ask(path, options = {}) {
  try {
    const answer = await fetch(path, { ...options, headers: { Accept: "application/json" } });
    return { ok: answer.ok, status: answer.status, body: await answer.json() };
  } catch {
    return { ok: false, status: 0, body: { notice: { level: "bad", text: "The CMS did not answer." } } };
  }
}

function post(form) {
  return ask(form.action, { method: "POST", body: new URLSearchParams(new FormData(form)) });
}

function note(form, level, text) {
  const place = form.querySelector(".form-note");
  place.className = `form-note ${level}`;
  place.textContent = text;
  clearTimeout(place.timer);
  if (level === "good") place.timer = setTimeout(() => { place.textContent = ""; }, 8000);
}

async function submit(event) {
  event.preventDefault();
  const form = event.currentTarget;
  if (form.dataset.busy) return;
  form.dataset.busy = "yes";
  note(form, "", "One moment…");
  const { ok, body } = await post(form);
  delete form.dataset.busy;
  note(form, body.notice?.level || "bad", body.notice?.text || "That did not work.");
  if (!ok) return;
  const clear = form.dataset.clear;
  if (clear) form.elements[clear].value = "";
  if (form.id === "editor") {
    touched = false;
    catchUp();
  }
}

function setUpForms() {
  for (const form of document.querySelectorAll("form[data-live]")) {
    form.addEventListener("submit", submit);
  }
  byId("editor")?.addEventListener("input", () => { touched = true; });
  const message = byId("message-text");
  message?.addEventListener("keydown", (event) => {
    if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
    event.preventDefault();
    message.form.requestSubmit();
  });
}

// -- Who is connected (for the administrator) ------------------------------------------------

function countText(count) {
  if (count === 0) return "not here";
  return count === 1 ? "1 connection" : `${count} connections`;
}

function field(row, name) {
  return row.querySelector(`[data-field="${name}"]`);
}

/** The rows are kept, so that the focus stays where it is. */
function showPerson(list, { user, name, connections }) {
  let row = Array.from(list.children).find((child) => child.dataset.person === user);
  if (!row) {
    row = byId("person-template").content.firstElementChild.cloneNode(true);
    row.dataset.person = user;
    showAvatar(field(row, "initial"), name);
    field(row, "name").textContent = name;
    row.querySelector("[name=user]").value = user;
    row.querySelector("button").setAttribute("aria-label", `Kick ${name}`);
    list.append(row);
  }
  setUpKick(row.querySelector("form"));
  row.dataset.state = connections ? "here" : "away";
  field(row, "count").textContent = countText(connections);
  row.querySelector("button").disabled = connections === 0 || user === "";
}

function setUpKick(form) {
  if (form.dataset.ready) return;
  form.dataset.ready = "yes";
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    const { body } = await post(form);
    note(byId("people"), body.notice?.level || "bad", body.notice?.text || "That did not work.");
    await refreshPeople();
  });
}

function showConnections(connections) {
  const rows = byId("connection-rows");
  if (!rows) return;
  rows.replaceChildren(...connections.map((connection) => {
    const row = byId("connection-template").content.firstElementChild.cloneNode(true);
    for (const name of ["name", "transport", "client"]) {
      field(row, name).textContent = connection[name] || "unknown";
    }
    field(row, "channels").textContent = connection.channels.join(", ") || "none";
    field(row, "since").dataset.since = connection.connected_since ?? "";
    field(row, "since").textContent = "unknown";
    showTime(field(row, "since"));
    return row;
  }));
}

async function refreshPeople() {
  const list = byId("people-list");
  if (!list) return;
  const { ok, body } = await ask("/people.json");
  const trouble = byId("people-trouble") || byId("people-note");
  if (!ok) {
    trouble.className = byId("people-trouble") ? "notice bad" : "form-note bad";
    trouble.textContent = body.notice?.text || "That did not work.";
    trouble.hidden = false;
    trouble.dataset.trouble = "yes";
    if (byId("people-data")) byId("people-data").hidden = true;
    return;
  }
  if (byId("people-trouble")) trouble.hidden = true;
  else if (trouble.dataset.trouble) trouble.textContent = "";
  delete trouble.dataset.trouble;
  if (byId("people-data")) byId("people-data").hidden = false;
  const present = new Set(body.users.map(({ user }) => user));
  for (const row of Array.from(list.children)) {
    if (!present.has(row.dataset.person)) row.remove();
  }
  for (const person of body.users) showPerson(list, person);
  showConnections(body.connections);
}

function setUpPeople() {
  if (!byId("people-list")) return;
  const next = async () => {
    if (!document.hidden) await refreshPeople();
    setTimeout(next, PEOPLE_SECONDS * 1000);
  };
  next();
}

// -- The connection --------------------------------------------------------------------------

const STATES = {
  connecting: "Connecting",
  connected: "Connected",
  reconnecting: "Reconnecting",
  disconnected: "Disconnected",
};

function showState({ state, code, reason, delay }) {
  const pill = byId("status");
  pill.dataset.state = state;
  const text = byId("status-text");
  if (text.textContent !== STATES[state]) text.textContent = STATES[state];
  pill.title = reason ? `${reason} (${code})` : "";
  document.body.dataset.live = state;
  if (delay !== undefined) logLine("state", "", `not connected, next try in ${delay.toFixed(1)} s`);
  byId("banner").hidden = true;
  if (state !== "disconnected") return;
  logLine("state", "", `disconnected: ${reason || "no reason"} (${code})`);
  showBanner(code, reason);
  if (code !== INVALID_TOKEN) checkSession();
}

/** A session that ended elsewhere was not kicked, whatever the code: the CMS knows. */
async function checkSession() {
  const { status } = await ask("/article.json");
  if (status === 403 && connection.state === "disconnected") showBanner(INVALID_TOKEN, "");
}

function showBanner(code, reason) {
  byId("announcement")?.classList.remove("shown");
  const banner = byId("banner");
  const words = element("div", "banner-text");
  const action = element("button", "button", "Connect again");
  action.type = "button";
  if (code === KICKED) {
    words.append(
      element("strong", "", "You were disconnected by an administrator."),
      element("p", "", "This page gets no more live updates, and does not come back by itself."),
    );
    action.addEventListener("click", () => connection.open());
  } else if (code === INVALID_TOKEN) {
    words.append(
      element("strong", "", "You are logged out."),
      element("p", "", "This session has ended, here or in another window."),
    );
    action.textContent = "Log in again";
    action.addEventListener("click", () => location.assign("/"));
  } else {
    words.append(
      element("strong", "", "This page is disconnected."),
      element("p", "", `The push server says: ${reason || "no reason given"} (${code}).`),
    );
    action.addEventListener("click", () => connection.open());
  }
  banner.replaceChildren(words, action);
  banner.hidden = false;
}

function showFacts(result) {
  if (!byId("facts")) return;
  const channels = Object.keys(result.subs || {}).sort();
  byId("fact-channels").replaceChildren(...channels.map((name) => element("span", "chip", name)));
  byId("fact-client").textContent = result.client || "";
  byId("facts").hidden = false;
  logLine("state", "", `connected, ${channels.length} channels`);
}

function received({ channel, kind, body, size }) {
  logLine("push", channel || "connection", `${kind} · ${size} bytes`);
  byId("status").classList.remove("blink");
  void byId("status").offsetWidth;
  byId("status").classList.add("blink");
  if (kind !== "publication") return;
  if (channel === ARTICLE_CHANNEL) showArticle(body.data);
  else if (isMessage(body.data)) toast(body.data.author, body.data.text, channel.startsWith("user:"));
}

const connection = new PushConnection(page.pushUrl, page.pushToken);
connection.addEventListener("state", (event) => showState(event.detail));
connection.addEventListener("push", (event) => received(event.detail));
connection.addEventListener("connected", (event) => {
  showFacts(event.detail);
  catchUp();
  refreshPeople();
});
window.addEventListener("online", () => connection.retryNow());

setUpForms();
setUpPeople();
showTimes();
setInterval(showTimes, 15000);
connection.open();
