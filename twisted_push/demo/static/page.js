// What the modules of the demo share: elements, times, and requests to the CMS.
//
// Whatever comes from outside is put into the page with textContent, and never as HTML.

export const page = document.body.dataset;
export const byId = (id) => document.getElementById(id);
export const field = (row, name) => row.querySelector(`[data-field="${name}"]`);

export function element(tag, className, text) {
  const made = document.createElement(tag);
  if (className) made.className = className;
  if (text !== undefined) made.textContent = text;
  return made;
}

/** Fill in a copy of a row of the page: texts by the names of its fields. */
export function row(template, texts) {
  const made = byId(template).content.firstElementChild.cloneNode(true);
  for (const [name, text] of Object.entries(texts)) field(made, name).textContent = text;
  return made;
}

/** A round initial; the style sheet has colors for some names. */
export function showAvatar(avatar, name) {
  avatar.className = `avatar small avatar-${/^[a-z]+$/i.test(name) ? name.toLowerCase() : "other"}`;
  avatar.textContent = name.slice(0, 1);
}

/** Is it an object with texts and numbers by these names? */
export function hasShape(data, shape) {
  return data !== null && typeof data === "object" &&
    Object.entries(shape).every(([name, type]) => typeof data[name] === type &&
      (type !== "number" || Number.isFinite(data[name])));
}

export function highlight(part) {
  part.classList.remove("changed");
  void part.offsetWidth; // let the animation start over
  part.classList.add("changed");
}

export function announce(text) {
  const box = byId("announcement");
  if (!box) return;
  box.textContent = text;
  box.classList.add("shown");
  clearTimeout(announce.timer);
  announce.timer = setTimeout(() => box.classList.remove("shown"), 12000);
}

// -- The title: how much came while nobody looked ----------------------------------------------

let unseen = 0;

function showUnseen() {
  const title = document.title.replace(/^\(\d+\) /, "");
  document.title = unseen ? `(${unseen}) ${title}` : title;
}

/** Count something that came, if the page is in the background. */
export function countUnseen() {
  if (!document.hidden) return;
  unseen += 1;
  showUnseen();
}

export function setTitle(title) {
  document.title = title;
  showUnseen();
}

document.addEventListener("visibilitychange", () => {
  if (document.hidden) return;
  unseen = 0;
  showUnseen();
});

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

export function showTime(time, since = time.dataset.since) {
  time.dataset.since = since;
  const seconds = Number(since);
  const moment = new Date(seconds * 1000);
  if (since === "" || Number.isNaN(moment.getTime())) return;
  const text = ago(seconds);
  if (time.textContent !== text) time.textContent = text;
  time.dateTime = moment.toISOString();
  time.title = moment.toLocaleString();
}

export function keepTimes() {
  const show = () => document.querySelectorAll("time[data-since]").forEach((time) => showTime(time));
  show();
  setInterval(show, 15000);
}

// -- Requests to the CMS ---------------------------------------------------------------------

export async function ask(path, options = {}) {
  try {
    const answer = await fetch(path, { ...options, headers: { Accept: "application/json" } });
    return { ok: answer.ok, status: answer.status, body: await answer.json() };
  } catch {
    return { ok: false, status: 0, body: { notice: { level: "bad", text: "The CMS did not answer." } } };
  }
}

export function post(form, body = new URLSearchParams(new FormData(form))) {
  return ask(form.action, { method: "POST", body });
}

export function note(form, level, text) {
  const place = form.querySelector(".form-note");
  place.className = `form-note ${level}`;
  place.textContent = text;
  clearTimeout(place.timer);
  if (level === "good") place.timer = setTimeout(() => { place.textContent = ""; }, 8000);
}

const sending = new WeakMap(); // form: what is sent of it, one after the other

function submit(event) {
  event.preventDefault();
  const form = event.currentTarget;
  const fields = new URLSearchParams(new FormData(form));
  // It is free at once for the next words, however long the CMS takes.
  const cleared = form.elements[form.dataset.clear];
  if (cleared) cleared.value = "";
  note(form, "", "One moment…");
  const before = sending.get(form) ?? Promise.resolve();
  sending.set(form, before.then(() => send(form, fields, cleared)));
}

async function send(form, fields, cleared) {
  const { ok, body } = await post(form, fields);
  note(form, body.notice?.level || "bad", body.notice?.text || "That did not work.");
  if (ok) form.dispatchEvent(new Event("sent"));
  else if (cleared?.value === "") cleared.value = fields.get(cleared.name);
}

export function setUpForms() {
  for (const form of document.querySelectorAll("form[data-live]")) {
    form.addEventListener("submit", submit);
    form.addEventListener("keydown", (event) => {
      const sends = "enter" in event.target.dataset && event.key === "Enter";
      if (!sends || event.shiftKey || event.isComposing) return;
      event.preventDefault();
      form.requestSubmit();
    });
  }
}
