// What carries a connection: a WebSocket, an answer that does not end, or polls.
//
// Each takes the server's address, the first command, and a wire: it gives that `send` and
// `close`, and tells it what comes (`data`) and the end (`end(code, reason, delay)`).

import { DELAY, fault } from "./helpers.js";

const REMEMBER = 864e5; // for which a browser goes on with what worked

export const TRANSPORTS = {
  __proto__: null,

  websocket(url, first, wire) {
    const socket = new WebSocket(`${url.replace(/^http/, "ws")}connection/websocket`);
    socket.onopen = () => socket.send(first);
    socket.onmessage = (event) => wire.data(event.data);
    socket.onclose = (event) => wire.end(event.code, event.reason);
    wire.send = (text) => socket.send(text);
    wire.close = () => socket.close();
  },

  http_stream(url, first, wire) {
    const post = emulate(url, wire);
    const read = async () => {
      const reader = (await post("connection/http_stream", first)).body.getReader();
      const decoder = new TextDecoder();
      for (let rest = "", part; !(part = await reader.read()).done;) {
        const lines = (rest + decoder.decode(part.value, { stream: true })).split("\n");
        rest = lines.pop();
        if (lines.length) wire.data(lines.join("\n"));
      }
      wire.end();
    };
    read().catch(wire.failed);
  },

  sse(url, first, wire) {
    emulate(url, wire);
    const address = `${url}connection/sse?cf_connect=${encodeURIComponent(first)}`;
    const source = new EventSource(address, { withCredentials: true });
    source.onmessage = (event) => wire.data(event.data);
    source.onerror = () => {
      source.close(); // It would come back with what is no longer the position.
      wire.end();
    };
    const abort = wire.close;
    wire.close = () => { source.close(); abort(); };
  },

  poll(url, first, wire) {
    const post = emulate(url, wire);
    const read = async () => {
      let body = first;
      for (let cursor = 0, misses = 0; ; body = JSON.stringify({ ...wire.auth, cursor })) {
        try {
          const text = await (await post("connection/poll", body)).text();
          misses = 0;
          cursor += 1;
          wire.data(text);
        } catch (error) {
          // An answer may be lost on its way: who asks again with the same cursor gets it.
          if (error.status || wire.closed || !cursor || ++misses > 2) throw error;
          await new Promise((resolve) => { setTimeout(resolve, DELAY * misses); });
        }
      }
    };
    read().catch(wire.failed);
  },
};

/** Give a wire what all fallbacks send by: requests, one after the other; give the request. */
function emulate(url, wire) {
  const aborting = new AbortController();
  const post = async (path, body) => {
    const { signal } = aborting;
    const options = { method: "POST", body, signal, credentials: "include" };
    const answer = await fetch(url + path, options);
    if (answer.ok) return answer;
    const status = answer.status;
    throw Object.assign(fault({ message: `HTTP ${status}` }),
      { status, delay: 1000 * (parseInt(answer.headers.get("Retry-After"), 10) || 0) });
  };
  let sent = Promise.resolve();
  wire.send = (data) => {
    const body = JSON.stringify({ ...wire.auth, data });
    sent = sent.then(() => post("emulation", body)).catch(wire.failed);
  };
  wire.close = () => {
    wire.closed = true;
    aborting.abort();
  };
  wire.failed = (error) => wire.end(0, error.message, error.delay);
  return post;
}

/** Where it is noted what worked: pages that may use other transports have another place. */
function noteOf({ url, transports }) {
  return `twisted_push ${url} ${transports}`;
}

export function remembered(page) {
  try {
    const { name, until } = JSON.parse(localStorage.getItem(noteOf(page)));
    return until > Date.now() ? name : undefined;
  } catch {
    return undefined; // Nothing there, or no storage.
  }
}

export function remember(page, name) {
  if (remembered(page) === name) return; // Else it would be tried first for ever.
  try {
    const until = Date.now() + REMEMBER;
    localStorage.setItem(noteOf(page), JSON.stringify({ name, until }));
  } catch {
    // No storage: the next page tries all again.
  }
}
