// For pages: a connection to the server that the script came from.
//
//   <script src="https://push.example.org/push.js" data-push-token="..."></script>
//
//   const push = Push.connect();
//   push.on("article:1", (data) => { ... });
//
// The tab (tab.js) has the page's callbacks, and knows how far it was told: its positions. The hub
// (hub.js) has the channels of all tabs of a login, and one link to the server (link.js). It is in
// the tab that holds a Web Lock: as a member (member.js) each tab finds it, or becomes it. A tab
// that shares with nobody has a hub of its own, and all else is the same.
//
// The protocol is Centrifugal JSON, version 2.

import { Tab } from "./tab.js";
import { TRANSPORTS } from "./transports.js";

const script = globalThis.document?.currentScript;

/** Give an attribute of the script's own element, or of the first element that has it. */
function attribute(what) {
  const name = `data-push-${what}`;
  const holder = script?.hasAttribute(name) ? script
    : globalThis.document?.querySelector(`[${name}]`);
  return holder?.getAttribute(name) ?? undefined;
}

function positionsOf(text) {
  try {
    return JSON.parse(text || "{}");
  } catch {
    throw new TypeError("data-push-positions is not JSON");
  }
}

function addressOf(url = attribute("url")) {
  const here = globalThis.location?.href;
  const address = new URL(url ?? (script?.src ? new URL(".", script.src) : "/"), here);
  return address.href.replace(/\/*([?#].*)?$/, "/");
}

/** Whether this browser can have one connection for all its tabs: over https alone. */
function canShare() {
  const { navigator, BroadcastChannel, crypto } = globalThis;
  return navigator?.locks && BroadcastChannel && crypto?.subtle;
}

export function connect(options = {}) {
  const { getToken, identity, share = true, transports = Object.keys(TRANSPORTS) } = options;
  const usable = transports.filter((name) => name in TRANSPORTS);
  if (!usable.length) throw new TypeError("transports: none that is known");
  const token = options.token ?? (getToken ? undefined : attribute("token"));
  // Else nobody knows whose login it is: a cookie may say it to the CMS.
  const known = identity || token;
  return new Tab({
    ...options,
    url: addressOf(options.url),
    token,
    positions: options.positions ?? positionsOf(attribute("positions")),
    transports: usable,
    share: share && known && canShare(),
  });
}
