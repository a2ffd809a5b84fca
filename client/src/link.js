// The connection to the server: by which transport, when it is given up, when it is taken up again.

import {
  DELAY_MAX, PROBE, REPLY, VERSION, after, given, offline, onWindow, pause, staysAway,
} from "./helpers.js";
import { TRANSPORTS, remember, remembered } from "./transports.js";

const PATIENCE = 5000; // for the first word over a transport, before the next one is tried
const LOST = { code: 0, message: "connection lost" };
const LATE = 10000; // for which a ping may be late
const STABLE = 10000; // connected for so long: the delays start over

/**
 * `owner` gives the `positions` to go on from, and is told when it has `begun`, what is `pushed`,
 * that there was a `beat`, and the state (`say`). `token` is what it connects with.
 */
export class Link {
  token;
  wire; // what carries it, if something does; `since` when the server has let it in
  #page;
  #owner;
  #replies = new Map(); // by id of the command
  #strikes = new Map(); // by transport: signs that it lets too little through; two are too many
  #commands = 0;
  #failures = 0;
  #earliest = 0; // The server wants no attempt before.
  #opening = true; // Until it is begun.
  #stopped = false;
  #good; // the transport that worked
  #ping; // between two of the server's pings
  #heard; // when it said something
  #timer; // until the next attempt
  #silent; // until it is given up
  #expiry; // until a new token is needed
  #unlisten;

  constructor(page, token, owner) {
    this.#page = page;
    this.token = token;
    this.#owner = owner;
    this.#unlisten = onWindow({
      online: () => this.wake(),
      offline: () => this.wire && this.#ended(0, "offline"),
    });
  }

  /** Whether the server has let it in. */
  get live() { return !!this.wire?.since; }

  begin() {
    this.#opening = false;
    this.open();
  }

  stop() {
    this.#stopped = true;
    this.#unlisten();
    this.drop();
  }

  // --- Connecting --------------------------------------------------------------------------

  async open() {
    clearTimeout(this.#timer);
    if (this.wire || this.#stopped || this.#opening) return;
    this.#opening = true;
    try {
      const { getToken } = this.#page;
      this.token ||= getToken && await given(getToken);
    } catch (error) {
      this.#opening = false;
      // Who fails need not say why.
      if (!this.#stopped) this.#later(error?.code, error?.message);
      return;
    }
    this.#opening = false;
    if (!this.#stopped) this.#attempt(this.#order());
  }

  /** Transports to try in one go: after a loss those that worked, until they fail thrice. */
  #order() {
    const known = remembered(this.#page);
    const rank = (name) => (this.#strikes.get(name) > 1 ? 2 : Number(name !== known));
    if (this.#good && rank(this.#good) < 2 && this.#failures < 4) return [this.#good];
    return [...this.#page.transports].sort((a, b) => rank(a) - rank(b));
  }

  #attempt([name, ...others]) {
    const wire = { name, others, since: 0, pings: 0, polls: name === "poll" };
    const mine = (act) => (...given) => { if (this.wire === wire) act(...given); };
    wire.data = mine((text) => this.#data(text));
    wire.end = mine((code, reason, delay) => {
      this.#judge(wire, code);
      this.#ended(code, reason, delay);
    });
    this.wire = wire;
    this.#silence(wire.polls ? REPLY : PATIENCE);
    try {
      TRANSPORTS[name](this.#page.url, this.#firstCommand(), wire);
    } catch (error) {
      wire.end(0, error.message);
    }
  }

  #firstCommand() {
    const { token } = this;
    const { data } = this.#page;
    // Who polls could not go on from a first answer that is not this one's.
    const early = !this.wire.polls;
    const subs = this.#owner.positions();
    const connect = { token, data, subs, name: "push.js", version: VERSION, early };
    return this.#command("connect", connect, (error, result) => {
      if (error) this.#notLetIn(error);
      else this.#connected(result);
    });
  }

  #notLetIn({ code, message, temporary }) {
    if (!code) return; // The connection is lost.
    this.wire.others = []; // They would hear the same.
    if (temporary || (code === 109 && this.#page.getToken)) this.#ended(code, message);
    else this.#deny(code, message);
  }

  #connected(result) {
    const { wire } = this;
    wire.auth = { session: result.session, node: result.node };
    wire.since = Date.now();
    this.#ping = 1000 * (result.ping || 25);
    this.#silence(this.#ping + LATE);
    if (this.#good !== wire.name) remember(this.#page, wire.name);
    this.#good = wire.name;
    this.#expire(result);
    this.#owner.begun(result);
  }

  /** See to a new token before the time is over; the page's own token just ends. */
  #expire({ expires, ttl }) {
    clearTimeout(this.#expiry);
    if (expires && this.#page.getToken) this.#expiry = after(1000 * ttl, () => this.#refresh());
  }

  async #refresh() {
    try {
      const token = await given(this.#page.getToken);
      this.send("refresh", { token }, (error, result) => {
        if (error) return;
        this.token = token;
        this.#expire(result);
      });
    } catch {
      this.token = undefined; // Asked for again when it has ended.
    }
  }

  // --- The end of a connection -------------------------------------------------------------

  /** Give up if nothing comes for so long. */
  #silence(patience) {
    const begun = Date.now();
    clearTimeout(this.#silent);
    this.#silent = setTimeout(() => {
      // A computer that slept is no fault of the transport's.
      const excused = patience === PROBE || Date.now() - begun > patience + LATE;
      if (this.live && !excused) this.#judge(this.wire, 3012);
      this.#ended(0, "silent");
    }, patience);
  }

  /** Note how a connection ended: something may hold back what it should pass on. */
  #judge({ name, since, pings }, code) {
    const held = Date.now() - since > 2 * (this.#ping + LATE); // Or it was not let in.
    const cut = since && pings < 2 && (!code || code === 1006);
    // Pings did not come in time, or their answers; or the end came before they went both ways.
    const signs = code === 3012 ? 2 - Math.min(pings, 1) : Number(cut);
    this.#strikes.set(name, (held ? 0 : this.#strikes.get(name) || 0) + signs);
  }

  drop() {
    const { wire } = this;
    const replies = this.#replies;
    this.wire = undefined;
    this.#replies = new Map();
    clearTimeout(this.#silent);
    clearTimeout(this.#expiry);
    clearTimeout(this.#timer);
    wire?.close?.();
    for (const done of replies.values()) done(LOST);
  }

  #ended(code = 0, reason = "", delay = 0) {
    const { wire } = this;
    const { others, since } = wire;
    this.drop();
    if (staysAway(code)) return this.#deny(code, reason);
    // The server itself has spoken: it is not for the transport.
    if (!since && others.length && code < 3000 && !delay && reason !== "offline") {
      return this.#attempt(others);
    }
    if (since && Date.now() - since > STABLE) this.#failures = 0;
    // A server that stops sends everybody away at once.
    if (code === 3001) this.#failures = Math.max(this.#failures, 2);
    if ([109, 3005, 3014].includes(code) && this.#page.getToken) this.token = undefined;
    return this.#later(code, reason, delay);
  }

  #later(code, reason, delay = 0) {
    const advice = 1000 * (/^try again in (\d+) s$/.exec(reason)?.[1] || 0);
    const random = pause(this.#failures);
    this.#failures += 1;
    // Offline it rather waits for the event.
    const told = Math.max(delay, advice);
    const least = offline() ? DELAY_MAX : told;
    this.#earliest = Date.now() + told;
    const wait = Math.round(least + random);
    this.#owner.say({ state: "connecting", code, reason, retryIn: wait });
    this.#timer = after(wait, () => this.open());
  }

  #deny(code, reason) {
    const { token } = this;
    const page = this.#page;
    const invalid = code === 3500 || code < 3000;
    if (invalid && page.token && token !== page.token) {
      this.token = page.token; // That was another tab's.
      this.drop();
      return this.#later(code, reason);
    }
    this.stop();
    return this.#owner.say({ state: "denied", code, reason, token: invalid ? token : undefined });
  }

  /** Somebody looks at a page: be there, and see whether the connection still is. */
  wake() {
    if (!this.wire) {
      if (Date.now() >= this.#earliest) this.open();
    } else if (this.wire.since && Date.now() - this.#heard > PROBE) {
      this.#silence(PROBE);
      this.send("ping", {});
    }
  }

  // --- The wire ----------------------------------------------------------------------------

  #command(method, params, done) {
    this.#commands += 1;
    this.#replies.set(this.#commands, done);
    return JSON.stringify({ id: this.#commands, [method]: params });
  }

  send(method, params, done = () => {}) {
    if (this.live) this.wire.send(this.#command(method, params, done));
    else done(LOST);
  }

  #data(text) {
    const { wire } = this;
    let messages;
    try {
      messages = text.split("\n").filter(Boolean).map((line) => JSON.parse(line));
    } catch {
      this.#ended(0, "not the protocol"); // The page of a hotel, for example.
      return;
    }
    this.#heard = Date.now();
    this.#silence(wire.since ? this.#ping + LATE : REPLY);
    for (const message of messages) {
      if (this.wire === wire) this.#take(message || {});
    }
  }

  #take({ id, push, error, ...result }) {
    const done = this.#replies.get(id);
    if (push) {
      const { disconnect, refresh } = push;
      if (disconnect) this.wire.end(disconnect.code, disconnect.reason);
      else if (refresh) this.#expire(refresh);
      else this.#owner.pushed(push);
    } else if (done) {
      this.#replies.delete(id);
      done(error, Object.values(result)[0]);
    } else if (!id) {
      this.wire.pings += 1;
      // Of who polls, each poll is a sign of life.
      if (this.wire.since && !this.wire.polls) this.wire.send("{}");
      this.#owner.beat();
    }
  }
}
