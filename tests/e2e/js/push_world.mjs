// A browser in memory for push.js: a clock, timers, transports, Web Locks, BroadcastChannels and
// several tabs, all of which move only when a test moves them.

import { createHash } from "node:crypto";
import { compileFunction } from "node:vm";

import { bundle } from "../../../client/bundle.mjs";

export const SOURCE = bundle();
const GLOBALS = ["globalThis", "document", "location", "navigator", "addEventListener",
  "setTimeout", "clearTimeout", "setInterval", "clearInterval", "Date", "Math", "WebSocket",
  "EventSource", "fetch", "localStorage", "BroadcastChannel", "crypto", "reportError"];
const compile = (source) => compileFunction(`${source}\nreturn Push;`, GLOBALS,
  { filename: "push.js" });
const run = compile(SOURCE);

export const SERVER = "https://push.example/";

/** Let all promises and messages that are on their way arrive. */
export async function settle() {
  for (let turn = 0; turn < 12; turn += 1) await new Promise((resolve) => { setImmediate(resolve); });
}

class FakeWebSocket {
  constructor(url, tab) {
    Object.assign(this, { url, tab, sent: [], closed: false });
  }

  send(text) {
    this.sent.push(...text.split("\n").map((line) => JSON.parse(line)));
  }

  close() { this.closed = true; }

  // --- What the other side does.

  accept() {
    this.onopen?.({});
    return this;
  }

  deliver(...messages) {
    if (this.tab.frozen) this.tab.frozen.push(() => this.deliver(...messages));
    if (this.tab.dead || this.tab.frozen) return;
    const lines = messages.map((each) => (typeof each === "string" ? each : JSON.stringify(each)));
    this.onmessage?.({ data: lines.join("\n") });
  }

  drop(code = 1006, reason = "") {
    this.closed = true;
    this.tab.run(() => this.onclose?.({ code, reason }));
  }

  /** The newest command of a method, of which the reply is yet to come. */
  command(method) {
    return this.sent.findLast((command) => command[method]);
  }

  reply(method, result) {
    this.deliver({ id: this.command(method).id, [method]: result });
  }

  refuse(method, code, message = "refused", temporary = undefined) {
    this.deliver({ id: this.command(method).id, error: { code, message, temporary } });
  }

  publish(channel, data, offset) {
    this.deliver({ push: { channel, pub: { data, offset } } });
  }

  serve(result = {}) {
    this.accept();
    this.reply("connect", { client: "client-1", ping: 25, pong: true, session: "s", node: "n", ...result });
    return this;
  }
}

class FakeRequest {
  constructor(url, { body, signal, method, credentials }) {
    Object.assign(this, { url, body, method, credentials, aborted: false });
    this.answered = new Promise((resolve, reject) => Object.assign(this, { resolve, reject }));
    signal.addEventListener("abort", () => {
      this.aborted = true;
      this.reject(new DOMException("aborted", "AbortError"));
      this.stream?.error(new DOMException("aborted", "AbortError"));
    });
  }

  get json() { return JSON.parse(this.body); }

  // --- What the other side does.

  /** Begin an answer; its lines follow. */
  begin() {
    const body = new ReadableStream({ start: (stream) => { this.stream = stream; } });
    this.resolve(new Response(body, { status: 200 }));
    return this;
  }

  write(text) { this.stream.enqueue(new TextEncoder().encode(text)); }

  line(message) { this.write(`${JSON.stringify(message)}\n`); }

  end() { this.stream.close(); }

  answer(...messages) {
    this.resolve(new Response(messages.map((each) => `${JSON.stringify(each)}\n`).join("")));
  }

  fail(status = 0, headers = {}) {
    if (status) this.resolve(new Response("refused", { status, headers }));
    else this.reject(new TypeError("network error"));
  }
}

/** The Web Locks of a browser: who holds one and who waits for it, in their order. */
class Locks {
  constructor() {
    this.held = [];
    this.waiting = [];
  }

  of(tab) {
    return {
      request: (name, ...rest) => {
        const callback = rest.pop();
        const [{ mode = "exclusive", signal, steal } = {}] = rest;
        return new Promise((resolve, reject) => {
          if (tab.dead) return;
          const request = { name, mode, tab, callback, resolve, reject };
          signal?.addEventListener("abort", () => {
            if (!this.waiting.includes(request)) return;
            this.waiting = this.waiting.filter((each) => each !== request);
            reject(new DOMException("aborted", "AbortError"));
          });
          if (steal) this.steal(request);
          else this.waiting.push(request);
          setImmediate(() => this.grant());
        });
      },
      query: async () => ({ pending: this.waiting.map(({ name }) => ({ name })) }),
    };
  }

  steal(request) {
    for (const holder of this.held.filter(({ name }) => name === request.name)) {
      holder.tab.run(() => holder.reject(new DOMException("stolen", "AbortError")));
    }
    this.held = this.held.filter(({ name }) => name !== request.name);
    this.waiting.unshift(request);
  }

  grant() {
    for (const request of [...this.waiting]) {
      const { name, mode, tab, callback, resolve } = request;
      const holders = this.held.filter((each) => each.name === name);
      if (holders.some((each) => mode === "exclusive" || each.mode === "exclusive")) continue;
      this.waiting = this.waiting.filter((each) => each !== request);
      this.held.push(request); // Also for a tab that is frozen, and cannot know it.
      tab.run(async () => {
        const value = await callback({ name });
        if (!this.held.includes(request)) return;
        this.held = this.held.filter((each) => each !== request);
        resolve(value);
        this.grant();
      });
    }
  }

  forget(tab) {
    this.waiting = this.waiting.filter((each) => each.tab !== tab);
    this.held = this.held.filter((each) => each.tab !== tab);
    this.grant();
  }

  /** Names of the locks that are held. */
  get names() { return this.held.map(({ name }) => name); }
}

export class Browser {
  constructor() {
    this.now = 1e12;
    this.timers = new Map();
    this.numbers = 0;
    this.randomness = 0.5;
    this.sockets = [];
    this.sources = [];
    this.requests = [];
    this.buses = [];
    this.posted = []; // by tabs to each other
    this.locks = new Locks();
    this.storage = new Map();
    this.errors = []; // what was thrown in timers
    this.reported = []; // and what the page was told of as its own
    this.tabs = [];
  }

  tab(options) {
    this.tabs.push(new Tab(this, options));
    return this.tabs.at(-1);
  }

  /** The newest WebSocket. */
  get ws() { return this.sockets.at(-1); }

  /** Those that are open. */
  get open() { return this.sockets.filter((socket) => !socket.closed && !socket.tab.dead); }

  request(path) {
    return this.requests.findLast((request) => request.url === SERVER + path);
  }

  /** Have every attempt that is under way fail, and those that follow at once. */
  async fail() {
    for (let turn = 0; turn < 4; turn += 1) {
      for (const socket of this.open) socket.drop();
      for (const request of this.requests) if (!request.aborted) request.fail();
      for (const source of this.sources) if (!source.closed) source.onerror({});
      await settle();
    }
  }

  /** Let time pass; timers fire in order. */
  async advance(milliseconds) {
    const end = this.now + milliseconds;
    await settle();
    for (;;) {
      const [next] = [...this.timers].filter(([, timer]) => timer.due <= end && !timer.tab.frozen)
        .sort(([, a], [, b]) => a.due - b.due);
      if (!next) break;
      const [id, timer] = next;
      this.now = Math.max(this.now, timer.due);
      if (timer.every) timer.due += timer.every;
      else this.timers.delete(id);
      try {
        timer.callback();
      } catch (error) {
        this.errors.push(error);
      }
      await settle();
    }
    this.now = end;
  }
}

class Tab {
  /**
   * `without`: names of what this browser does not have; `attributes`: of the script's element;
   * `replace`: a text of the script, and what stands in its place.
   */
  constructor(browser, options = {}) {
    const { without = [], attributes = {}, src = `${SERVER}push.js`, state, replace } = options;
    this.browser = browser;
    this.listeners = [];
    this.online = true;
    const window = this.#window(attributes, src, state);
    for (const name of without) {
      delete window[name];
      delete window.navigator[name];
    }
    this.window = window;
    this.Push = (replace ? compile(SOURCE.replace(...replace)) : run)(...GLOBALS.map((name) => window[name]));
  }

  #window(attributes, src, state = "visible") {
    const { browser } = this;
    const tab = this;
    const timer = (callback, delay, every) => {
      browser.numbers += 1;
      if (!tab.dead) browser.timers.set(browser.numbers, { callback, due: browser.now + (delay || 0), every, tab });
      return browser.numbers;
    };
    const clear = (id) => browser.timers.delete(id);
    const listen = (event, listener, { signal }) => {
      const entry = { event, listener };
      this.listeners.push(entry);
      signal.addEventListener("abort", () => {
        this.listeners = this.listeners.filter((each) => each !== entry);
      });
    };
    this.document = {
      visibilityState: state,
      currentScript: {
        src,
        hasAttribute: (name) => Object.hasOwn(attributes, name),
        getAttribute: (name) => attributes[name] ?? null,
      },
      querySelector: () => null,
    };
    const window = {
      document: this.document,
      location: { href: "https://site.example/page" },
      navigator: { get onLine() { return tab.online; }, locks: browser.locks.of(this) },
      addEventListener: listen,
      setTimeout: timer,
      clearTimeout: clear,
      setInterval: (callback, every) => timer(callback, every, every),
      clearInterval: clear,
      Date: { now: () => browser.now },
      Math: Object.assign(Object.create(Math), {
        // Never the same twice, or two tabs would have one name.
        random: () => browser.randomness + (browser.numbers += 1) * 1e-12, min: Math.min, max: Math.max, round: Math.round,
      }),
      WebSocket: function WebSocket(url) {
        const socket = new FakeWebSocket(url, tab);
        browser.sockets.push(socket);
        return socket;
      },
      EventSource: function EventSource(url, options) {
        const source = { url, ...options, closed: false, close() { source.closed = true; } };
        source.deliver = (...messages) => {
          for (const each of messages) source.onmessage({ data: JSON.stringify(each) });
        };
        browser.sources.push(source);
        return source;
      },
      fetch: (url, options) => {
        const request = new FakeRequest(url, options);
        browser.requests.push(request);
        return request.answered;
      },
      reportError: (error) => browser.reported.push(error),
      crypto: { subtle: {
        digest: async (name, bytes) => createHash("sha256").update(bytes).digest().buffer,
      } },
      localStorage: {
        getItem: (name) => browser.storage.get(name) ?? null,
        setItem: (name, value) => browser.storage.set(name, value),
      },
      BroadcastChannel: function BroadcastChannel(name) {
        const bus = {
          name,
          tab,
          close() { browser.buses = browser.buses.filter((each) => each !== bus); },
          postMessage(data) {
            const others = browser.buses.filter((each) => each !== bus && each.name === name);
            const copy = structuredClone(data);
            browser.posted.push(copy);
            setImmediate(() => {
              for (const each of others) {
                if (browser.buses.includes(each)) each.tab.receive(each, copy);
              }
            });
          },
        };
        if (!tab.dead) browser.buses.push(bus);
        return bus;
      },
    };
    return Object.assign(window, { globalThis: window });
  }

  /** Have it do something, or later if it is frozen. */
  run(act) {
    if (this.frozen) this.frozen.push(act);
    else if (!this.dead) act();
  }

  receive(bus, data) {
    this.run(() => bus.onmessage({ data: structuredClone(data) }));
  }

  /** Connect; `push.log` keeps what it told, and `push.heard` the data of messages. */
  connect(options) {
    const push = this.Push.connect(options);
    push.log = [];
    push.heard = [];
    push.onState((state, status) => {
      push.log.push(status);
      push.retryIn = status.retryIn;
    });
    push.onMessage((message) => push.heard.push(message.data));
    push.onChannel((event) => push.log.push(event));
    push.onPresence((event) => push.log.push(event));
    this.push = push;
    return push;
  }

  dispatch(event, fields = {}) {
    this.run(() => {
      for (const each of [...this.listeners]) if (each.event === event) each.listener(fields);
    });
  }

  show(state) {
    this.document.visibilityState = state;
    this.dispatch("visibilitychange");
  }

  /** End without a last word. */
  kill() {
    this.dead = true;
    const { browser } = this;
    for (const [id, timer] of browser.timers) if (timer.tab === this) browser.timers.delete(id);
    browser.buses = browser.buses.filter((bus) => bus.tab !== this);
    browser.locks.forget(this);
  }

  freeze() { this.frozen ||= []; }

  thaw() {
    const missed = this.frozen || [];
    this.frozen = undefined;
    for (const act of missed) this.run(act);
  }
}

/** What was told since the last look, short: states by name, channels by event. */
export function told(push) {
  return push.log.splice(0).map((each) => {
    if (each.state) return each.state;
    if (each.online) return `online ${each.online.join()}`;
    if (each.channel && !each.user) return `${each.channel} ${each.event}`;
    return [each.channel, each.user, each.event].filter(Boolean).join(" ");
  });
}

const CHANNELS = { subs: { a: {}, b: {} } };

/** A tab alone in a browser, which connects and is connected by a WebSocket. */
export async function connected(options = {}, result = CHANNELS, { without } = {}) {
  const browser = new Browser();
  const tab = browser.tab({ without });
  const push = tab.connect({ share: false, token: "t", ...options });
  await settle();
  browser.ws.serve(result);
  await settle();
  push.log.length = 0;
  return { browser, tab, push, ws: browser.ws };
}
