// Who is connected, for the administrator.

import { ask, byId, field, note, post, showAvatar, showTime } from "./page.js";
import { push } from "./live.js";

const SECONDS = 3;

function countText(count) {
  if (count === 0) return "not here";
  return count === 1 ? "1 connection" : `${count} connections`;
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
    field(row, "since").textContent = "unknown";
    showTime(field(row, "since"), connection.connected_since ?? "");
    return row;
  }));
}

function showTrouble(text) {
  const trouble = byId("people-trouble") || byId("people-note");
  if (text) {
    trouble.className = byId("people-trouble") ? "notice bad" : "form-note bad";
    trouble.textContent = text;
    trouble.dataset.trouble = "yes";
  } else if (trouble.dataset.trouble) {
    trouble.textContent = "";
    delete trouble.dataset.trouble;
  }
  if (byId("people-trouble")) trouble.hidden = !text;
  if (byId("people-data")) byId("people-data").hidden = Boolean(text);
}

async function refreshPeople() {
  const list = byId("people-list");
  const { ok, body } = await ask("/people.json");
  showTrouble(ok ? "" : body.notice?.text || "That did not work.");
  if (!ok) return;
  const present = new Set(body.users.map(({ user }) => user));
  for (const row of Array.from(list.children)) {
    if (!present.has(row.dataset.person)) row.remove();
  }
  for (const person of body.users) showPerson(list, person);
  showConnections(body.connections);
}

export function setUpPeople() {
  if (!byId("people-list")) return;
  const next = async () => {
    if (!document.hidden) await refreshPeople();
    setTimeout(next, SECONDS * 1000);
  };
  next();
  // Sooner than that, when somebody comes or goes.
  push?.onPresence(refreshPeople);
}
