// A browser in memory for the client script: a clock, timers, WebSockets, requests and a window,
// all of which move only when a test moves them.

import { readFileSync } from "node:fs";
import { compileFunction } from "node:vm";

const PATH = new URL("../../../twisted_push/static/socket.io.js", import.meta.url);
export const SOURCE = readFileSync(PATH, "utf8");
const GLOBALS = ["self", "setTimeout", "clearTimeout", "Date", "Math", "module", "define"];
const run = compileFunction(SOURCE, GLOBALS, { filename: PATH.pathname });

export const SERVER = "http://push.example:8080";
export const OPEN = '0{"sid":"engine-1","upgrades":[],"pingInterval":25000,"pingTimeout":20000,' +
  '"maxPayload":100000}';
export const CONNECTED = '40{"sid":"socket-1"}';
const HERE = { protocol: "http:", host: "site.example" };
export const SEPARATOR = "\x1e";

class FakeWebSocket {
  constructor(url) {
    this.url = url;
    this.readyState = 0;
    this.sent = [];
  }

  send(data) {
    if (this.readyState === 0) throw new Error("not open yet");
    this.sent.push(data);
  }

  close() {
    this.readyState = 3;
  }

  get closed() {
    return this.readyState === 3;
  }

  // --- What the other side does.

  accept() {
    this.readyState = 1;
    this.onopen?.({});
    return this;
  }

  deliver(...packets) {
    for (const data of packets) this.onmessage?.({ data });
    return this;
  }

  /** Accept, and connect as the server does. */
  serve() {
    return this.accept().deliver(OPEN, CONNECTED);
  }

  fail() {
    this.onerror?.({});
    this.onclose?.({});
  }

  drop() {
    this.readyState = 3;
    this.onclose?.({});
  }
}

class FakeRequest {
  constructor() {
    this.readyState = 0;
    this.status = 0;
    this.responseText = "";
    this.headers = {};
    this.withCredentials = false;
    this.aborted = false;
  }

  open(method, url, asynchronous) {
    Object.assign(this, { method, asynchronous, url: new URL(url) });
  }

  setRequestHeader(name, value) {
    this.headers[name] = value;
  }

  send(body) {
    this.body = body;
    this.world.requests.push(this);
  }

  abort() {
    if (!this.pending) return;
    this.aborted = true;
    this.#done(0, "");
  }

  get pending() {
    return this.readyState !== 4;
  }

  get packets() {
    return this.body.split(SEPARATOR);
  }

  // --- What the other side does.

  answer(...packets) {
    this.#done(200, packets.join(SEPARATOR));
  }

  fail(status = 0) {
    this.#done(status, "refused");
  }

  #done(status, text) {
    for (const readyState of [2, 3]) {
      Object.assign(this, { readyState, status });
      this.onreadystatechange?.({});
    }
    Object.assign(this, { readyState: 4, responseText: text });
    this.onreadystatechange?.({});
  }
}

export class World {
  /** `without`: the names of what this browser does not have; `loader`: module and define. */
  constructor({ without = [], loader = {}, location = HERE } = {}) {
    this.now = 1e12;
    this.timers = new Map();
    this.sockets = [];
    this.requests = [];
    this.errors = []; // what was thrown in timers
    this.listeners = []; // of the window
    this.randomness = 0.5;
    this.window = this.#window(location);
    for (const name of without) delete this.window[name];
    let number = 0;
    const setTimeout = (callback, delay) => {
      number += 1;
      this.timers.set(number, { callback, due: this.now + delay, delay });
      return number;
    };
    run(this.window, setTimeout, (id) => this.timers.delete(id), { now: () => this.now },
      Object.assign(Object.create(Math), { random: () => this.randomness }),
      loader.module, loader.define);
    this.io = this.window.io;
  }

  #window(location) {
    const world = this;
    return {
      location,
      WebSocket: class extends FakeWebSocket {
        constructor(url) {
          super(url);
          world.sockets.push(this);
        }
      },
      XMLHttpRequest: class extends FakeRequest {
        world = world;
      },
      addEventListener: (event, listener) => this.listeners.push({ event, listener }),
      removeEventListener: (event, listener) => {
        this.listeners = this.listeners.filter((l) => l.event !== event || l.listener !== listener);
      },
    };
  }

  /** Let time pass; timers fire in order. */
  advance(milliseconds) {
    const end = this.now + milliseconds;
    for (;;) {
      const due = [...this.timers].filter(([, timer]) => timer.due <= end)
        .sort(([, a], [, b]) => a.due - b.due)[0];
      if (!due) break;
      const [id, timer] = due;
      this.timers.delete(id);
      this.now = timer.due;
      try {
        timer.callback();
      } catch (error) {
        this.errors.push(error);
      }
    }
    this.now = end;
  }

  dispatch(event) {
    for (const each of [...this.listeners]) if (each.event === event) each.listener({});
  }

  /** The newest WebSocket. */
  get ws() {
    return this.sockets.at(-1);
  }

  #pending(method) {
    const found = this.requests.filter((request) => request.method === method && request.pending);
    if (found.length > 1) throw new Error(`${found.length} requests ${method} at a time`);
    return found[0];
  }

  /** The GET or POST under way; undefined if there is none. */
  get get() {
    return this.#pending("GET");
  }

  get post() {
    return this.#pending("POST");
  }

  /** Connect a poll that waits for its handshake, as the server does. */
  servePoll(handshake = OPEN) {
    this.get.answer(handshake);
    this.post.answer("ok");
    this.get.answer(CONNECTED);
  }

  /** The delay until the only timer there is. */
  get delay() {
    if (this.timers.size !== 1) throw new Error(`${this.timers.size} timers`);
    return [...this.timers.values()][0].delay;
  }

  /** A socket that keeps in `log` what happens to it, as "event argument …". */
  socket(options, url = SERVER) {
    const socket = this.io.connect(url, options);
    socket.log = [];
    for (const event of ["connect", "disconnect", "connect_error", "connect_timeout", "error",
      "reconnect", "reconnect_attempt", "reconnecting", "reconnect_error", "reconnect_failed",
      "message"]) {
      socket.on(event, (...args) => {
        const words = args.map((a) => (a instanceof Error ? a.message : JSON.stringify(a)));
        socket.log.push([event, ...words].join(" "));
      });
    }
    return socket;
  }

  /** A socket that is connected by WebSocket. */
  connected(options) {
    const socket = this.socket(options);
    this.ws.serve();
    socket.log.length = 0;
    return socket;
  }

  /** A socket that is connected by polling alone. */
  polling(options, handshake) {
    const socket = this.socket({ transports: ["polling"], ...options });
    this.servePoll(handshake);
    socket.log.length = 0;
    return socket;
  }
}
