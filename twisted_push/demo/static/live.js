// The connection: the push server's own client, the pill that shows its state, and the panel.
//
// Each other module takes `push` from here, and says `push?.on(channel, …)`: without a push server
// there is no script of it, and the page goes on as a page.

import { ask, byId, element, page } from "./page.js";

const KICKED = 3503;
const INVALID_TOKEN = 3500;
const LOG_LENGTH = 60;
const WISH = "twisted_push demo transport";

const STATES = {
  connecting: "Connecting",
  connected: "Connected",
  recovering: "Reconnecting",
  denied: "Disconnected",
  closed: "Disconnected",
};
const TRANSPORTS = {
  websocket: "WebSocket",
  http_stream: "HTTP stream",
  sse: "Server-sent events",
  poll: "Long polling",
};

// A tab that wishes for a transport of its own does not share the connection of the others.
const wish = sessionStorage.getItem(WISH) ?? "";
export const push = globalThis.Push?.connect(wish in TRANSPORTS ? { transports: [wish], share: false } : {});

/** Call a function when a channel may have brought the page something too little. */
export function onGap(channel, catchUp) {
  push?.onChannel((event) => {
    // From its position on, that is, without a gap.
    if (event.channel === channel && ["subscribed", "lost"].includes(event.event)) catchUp();
  });
}

// -- The state -------------------------------------------------------------------------------

function showState(state, { code, reason, retryIn, transport, client, recovered }) {
  const pill = byId("status");
  pill.dataset.state = state;
  const text = byId("status-text");
  if (text.textContent !== STATES[state]) text.textContent = STATES[state];
  pill.title = reason ? `${reason} (${code})` : "";
  page.live = state;
  byId("banner").hidden = true;
  showFacts(state, transport, client);
  if (state === "connected") {
    logLine("state", "", `connected by ${TRANSPORTS[transport] ?? transport}`);
    if (recovered !== undefined) {
      logLine("state", "", recovered ? "nothing was missed" : "something was missed");
    }
  } else if (retryIn) {
    logLine("state", "", `not connected, next try in ${(retryIn / 1000).toFixed(1)} s`);
  } else if (state === "denied") {
    logLine("state", "", `disconnected: ${reason || "no reason"} (${code})`);
    showBanner(code, reason);
    if (code !== INVALID_TOKEN) checkSession();
  } else if (state === "closed") {
    logLine("state", "", "disconnected by you");
  }
}

/** A session that ended elsewhere was not kicked, whatever the code: the CMS knows. */
async function checkSession() {
  const { status } = await ask("/article.json");
  if (status === 403 && push.state === "denied") showBanner(INVALID_TOKEN, "");
}

function bannerFor(code, reason) {
  const again = { label: "Connect again", act: () => push.reconnect() };
  if (code === KICKED) {
    return {
      ...again,
      title: "You were disconnected by an administrator.",
      text: "This page gets no more live updates, and does not come back by itself.",
    };
  }
  if (code === INVALID_TOKEN) {
    return {
      label: "Log in again",
      act: () => location.assign("/"),
      title: "You are logged out.",
      text: "This session has ended, here or in another window.",
    };
  }
  return {
    ...again,
    title: "This page is disconnected.",
    text: `The push server says: ${reason || "no reason given"} (${code}).`,
  };
}

function showBanner(code, reason) {
  raise(bannerFor(code, reason));
}

function raise({ title, text, label, act }) {
  byId("announcement")?.classList.remove("shown");
  const banner = byId("banner");
  const words = element("div", "banner-text");
  words.append(element("strong", "", title), element("p", "", text));
  const action = element("button", "button", label);
  action.type = "button";
  action.addEventListener("click", act);
  banner.replaceChildren(words, action);
  banner.hidden = false;
}

// -- The panel -------------------------------------------------------------------------------

const channels = new Set();
let received = 0;

function showFacts(state, transport, client) {
  if (!byId("panel")) return;
  if (state === "closed" || state === "denied") channels.clear();
  showChips();
  byId("fact-state").textContent = STATES[state];
  byId("fact-transport").textContent = TRANSPORTS[transport] ?? "none";
  byId("fact-client").textContent = client ?? "none";
  const toggle = byId("panel-toggle");
  toggle.disabled = false;
  toggle.textContent = ["denied", "closed"].includes(state) ? "Connect" : "Disconnect";
}

function showChannels({ channel, event }) {
  if (event === "unsubscribed") channels.delete(channel);
  else channels.add(channel);
  if (byId("panel")) showChips();
}

function showChips() {
  const chips = [...channels].sort().map((name) => element("span", "chip", name));
  byId("fact-channels").replaceChildren(...(chips.length ? chips : ["none"]));
}

export function logLine(kind, channel, text) {
  const list = byId("log");
  if (!list) return;
  byId("log-empty").hidden = true;
  const line = element("li", `log-line ${kind}`);
  line.append(element("span", "log-time", new Date().toLocaleTimeString("en-GB")));
  const what = element("span", "log-what");
  if (channel) what.append(element("b", "", channel), " · ");
  what.append(text);
  line.append(what);
  list.prepend(line);
  while (list.children.length > LOG_LENGTH) list.lastElementChild.remove();
}

function showMessage({ channel, data, offset }) {
  received += 1;
  const place = offset ? `no. ${offset}` : "not kept";
  logLine("push", channel, `${place} · ${JSON.stringify(data).slice(0, 300)}`);
  if (byId("panel")) {
    byId("fact-received").textContent = received === 1 ? "1 message" : `${received} messages`;
  }
  byId("status").classList.remove("blink");
  void byId("status").offsetWidth;
  byId("status").classList.add("blink");
}

function setUpPanel() {
  if (!byId("panel")) return;
  byId("panel-transport").value = wish in TRANSPORTS ? wish : "";
  byId("panel-transport").addEventListener("change", ({ target }) => {
    sessionStorage.setItem(WISH, target.value);
    location.reload();
  });
  byId("panel-toggle").addEventListener("click", () => {
    if (["denied", "closed"].includes(push.state)) push.reconnect();
    else push.close();
  });
}

export function setUpLive() {
  if (!push) {
    byId("status").dataset.state = "denied";
    byId("status-text").textContent = "Disconnected";
    page.live = "denied";
    raise({
      title: "There is no push server.",
      text: "It did not answer when this page was loaded. Everything else works.",
      label: "Load the page again",
      act: () => location.reload(),
    });
    return;
  }
  push.onState(showState);
  push.onChannel(showChannels);
  push.onMessage(showMessage);
  push.onPresence(({ event, user, online }) => {
    if (event === "online" || event === "offline") logLine("state", "", `${user} is ${event}`);
    else if (online?.length) logLine("state", "", `online: ${online.join(", ")}`);
  });
  setUpPanel();
}
