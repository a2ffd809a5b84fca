// A minimal client of the push server's native protocol: one WebSocket, JSON text frames.
//
//   const connection = new PushConnection(url, token);
//   connection.addEventListener("state", (event) => …);        // see setState() below
//   connection.addEventListener("connected", (event) => …);    // detail: the connect result
//   connection.addEventListener("push", (event) => …);         // detail: {channel, kind, body, size}
//   connection.open();
//
// States: "idle" → "connecting" → "connected" ⇄ "reconnecting" → "disconnected".
// "disconnected" is for good: the server has said that this page shall stay away.

const FIRST_DELAY = 0.5; // seconds
const LONGEST_DELAY = 20;
const PING_GRACE = 10; // seconds that a ping of the server may be late
const CONNECT_TIMEOUT = 10; // seconds from opening the socket to the connect result
const STABLE_AFTER = 5; // seconds connected, after which the delays start over

/** Does a close code tell the client to stay away? */
export function isFinal(code) {
  return (code >= 3500 && code < 4000) || (code >= 4500 && code < 5000) || code === 1009;
}

/** Seconds to wait before attempt number `attempt` (0, 1, …): a random part of a growing span. */
export function backoff(attempt, random = Math.random) {
  const most = Math.min(LONGEST_DELAY, 2 * FIRST_DELAY * 2 ** attempt);
  return FIRST_DELAY + random() * (most - FIRST_DELAY);
}

const encoder = new TextEncoder();

export class PushConnection extends EventTarget {
  #url;
  #token;
  #socket = null;
  #state = "idle";
  #attempt = 0;
  #connectedAt = 0;
  #pingSeconds = 0;
  #answersPings = false;
  #deadline = null; // the timer that declares a silent socket dead
  #retry = null; // the timer of the next attempt

  constructor(url, token) {
    super();
    this.#url = url;
    this.#token = token;
  }

  get state() {
    return this.#state;
  }

  /** Connect, and stay connected. */
  open() {
    if (this.#state === "idle" || this.#state === "disconnected") {
      this.#attempt = 0;
      this.#connect("connecting");
    }
  }

  /** Disconnect on our own wish. */
  close() {
    this.#drop();
    this.#setState("disconnected", { code: 1000, reason: "closed by the page" });
  }

  /** Do not wait for the next attempt: the network is back. */
  retryNow() {
    if (this.#state === "reconnecting" && this.#socket === null) {
      this.#attempt = 0;
      this.#connect("reconnecting");
    }
  }

  #connect(state) {
    this.#drop();
    this.#setState(state, {});
    const socket = new WebSocket(this.#url);
    this.#socket = socket;
    // Events of a socket that was given up are none of our business any more.
    const current = (listener) => (event) => this.#socket === socket && listener(event);
    socket.addEventListener("open", current(() => {
      socket.send(JSON.stringify({ id: 1, connect: { token: this.#token } }));
    }));
    socket.addEventListener("message", current((event) => this.#frame(event.data)));
    socket.addEventListener("close", current((event) => this.#ended(event.code, event.reason)));
    this.#expect(CONNECT_TIMEOUT, "no answer");
  }

  #frame(text) {
    for (const line of String(text).split("\n")) {
      if (line === "") continue;
      let message;
      try {
        message = JSON.parse(line);
      } catch {
        this.#ended(0, "the server sent something that is not JSON");
        return;
      }
      this.#message(message, encoder.encode(line).length);
      if (this.#socket === null) return;
    }
  }

  #message(message, size) {
    if (message === null || typeof message !== "object") return;
    if (message.push) {
      this.#push(message.push, size);
    } else if (message.id === 1 && message.error) {
      const { code, message: reason, temporary } = message.error;
      this.#ended(temporary ? 3004 : 3500, reason || `error ${code}`);
    } else if (message.id === 1 && message.connect) {
      this.#connected(message.connect);
    } else if (Object.keys(message).length === 0) {
      if (this.#answersPings) this.#socket.send("{}");
      this.#expectPing();
    }
  }

  #connected(result) {
    this.#connectedAt = performance.now();
    this.#pingSeconds = Number(result.ping) || 0;
    this.#answersPings = result.pong === true;
    this.#expectPing();
    this.#setState("connected", {});
    this.dispatchEvent(new CustomEvent("connected", { detail: result }));
  }

  #push(push, size) {
    const kind = Object.keys(push).find((key) => key !== "channel") || "";
    const body = push[kind] || {};
    const detail = { channel: push.channel || "", kind: kind === "pub" ? "publication" : kind, body, size };
    this.dispatchEvent(new CustomEvent("push", { detail }));
    if (kind === "disconnect") this.#ended(Number(body.code) || 3000, String(body.reason || ""));
  }

  #expectPing() {
    if (this.#pingSeconds > 0) {
      this.#expect(this.#pingSeconds + PING_GRACE, "no ping");
    } else {
      clearTimeout(this.#deadline);
    }
  }

  #expect(seconds, reason) {
    clearTimeout(this.#deadline);
    this.#deadline = setTimeout(() => this.#ended(0, reason), seconds * 1000);
  }

  /** The socket is over, or as good as over: come back later, or stay away. */
  #ended(code, reason) {
    const stable = this.#connectedAt && performance.now() - this.#connectedAt > STABLE_AFTER * 1000;
    if (stable) this.#attempt = 0;
    this.#drop();
    if (isFinal(code)) {
      this.#setState("disconnected", { code, reason });
      return;
    }
    const delay = backoff(this.#attempt++);
    this.#setState("reconnecting", { code, reason, delay });
    this.#retry = setTimeout(() => this.#connect("reconnecting"), delay * 1000);
  }

  #drop() {
    clearTimeout(this.#deadline);
    clearTimeout(this.#retry);
    const socket = this.#socket;
    this.#socket = null;
    this.#connectedAt = 0;
    this.#pingSeconds = 0;
    this.#answersPings = false;
    if (socket !== null) socket.close();
  }

  #setState(state, detail) {
    this.#state = state;
    this.dispatchEvent(new CustomEvent("state", { detail: { state, ...detail } }));
  }
}
