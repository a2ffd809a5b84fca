// One tab, as its page sees it: callbacks, channels, calls.

import {
  PROBE, ROLL_CALL, after, fault, given, hidden, onWindow, pause,
} from "./helpers.js";
import { Member } from "./member.js";

const CALL = 10000; // for the answer to a call
// Kinds of events; no channel is a number.
const MESSAGE = 1;
const STATE = 2;
const CHANNEL = 3;
const PRESENCE = 4;

export class Tab {
  #page;
  #callbacks = new Map(); // channel, or kind of event: functions
  #at; // channel: position
  #wants = new Map(); // channel: what it is asked for with
  #granted = new Set(); // channels that are for all tabs
  #behind = new Set(); // channels of which something was missed, and is yet to come
  #news; // what the hub told last of the connection
  #gaps = new Set(); // channels of which something is lost, since it was connected
  #calls = new Map(); // by number
  #numbers = 0;
  #online = [];
  #status = { state: "connecting" };
  #begun = false; // It was connected before.
  #member;
  #pause; // until a tab in the background gives up its connection
  #unlisten;

  constructor(page) {
    this.#page = page;
    this.#member = new Member(page, {
      presented: () => this.#presented(),
      take: (message) => this.#take(message),
    });
    this.#at = new Map(Object.entries(page.positions || {}));
    this.#attend();
    this.#join();
  }

  get state() { return this.#status.state; }
  get transport() { return this.#status.transport; }
  get client() { return this.#status.client; }
  get online() { return [...this.#online]; }

  // --- What a page listens to ----------------------------------------------------------------

  on(channel, callback) {
    if (!this.#callbacks.has(channel)) this.#callbacks.set(channel, new Set());
    this.#callbacks.get(channel).add(callback);
    return () => this.off(channel, callback);
  }

  off(channel, callback) {
    const callbacks = this.#callbacks.get(channel);
    if (callback) callbacks?.delete(callback);
    if (!callback || !callbacks?.size) this.#callbacks.delete(channel);
  }

  onMessage(callback) { return this.on(MESSAGE, callback); }
  onState(callback) { return this.on(STATE, callback); }
  onChannel(callback) { return this.on(CHANNEL, callback); }
  onPresence(callback) { return this.on(PRESENCE, callback); }

  /** Call all callbacks; one that fails stops no other. */
  #emit(key, ...values) {
    for (const callback of [...this.#callbacks.get(key) || []]) {
      try {
        callback(...values);
      } catch (error) {
        // In a timer of a script of another origin it would be no more than "Script error."
        if (globalThis.reportError) reportError(error);
        else setTimeout(() => { throw error; });
      }
    }
  }

  // --- What a page does ----------------------------------------------------------------------

  subscribe(channel, { token, since, data } = {}) {
    const renewable = typeof token === "function";
    const waiting = this.#wants.get(channel)?.waiting || [];
    const want = { data, waiting, ...(renewable ? { fetch: token, renewable } : { token }) };
    if (since) this.#at.set(channel, { epoch: since.epoch, offset: since.offset });
    this.#wants.set(channel, want);
    const answer = new Promise((resolve, reject) => { want.waiting.push({ resolve, reject }); });
    answer.catch(() => {}); // Who does not look at it listens to `onChannel`.
    if (this.#ended) this.#forget(channel, this.#over(this.#status));
    else this.#want(channel);
    return answer;
  }

  unsubscribe(channel) {
    this.#forget(channel, { message: "it is unsubscribed" });
    this.#caughtUp(channel);
    this.#member.tell({ type: "unwant", channel });
  }

  async publish(channel, data) { await this.#call("publish", { channel, data }); }

  async rpc(method, data) { return (await this.#call("rpc", { method, data })).data; }

  async presence(channel) { return (await this.#call("presence", { channel })).presence || {}; }

  async history(channel, options) {
    return { publications: [], ...await this.#call("history", { channel, ...options }) };
  }

  close() {
    if (this.state !== "closed") this.#end({ state: "closed" });
  }

  /** Connect again, after it was denied or closed. */
  reconnect() {
    if (!this.#ended) return;
    this.#attend();
    this.#begun = false;
    if (this.#page.getToken) this.#member.token = ""; // To have a new one.
    this.#set({ state: "connecting" });
    this.#join();
    for (const channel of this.#wants.keys()) this.#want(channel);
  }

  // --- The page's life -----------------------------------------------------------------------

  get #ended() { return ["denied", "closed"].includes(this.state); }

  #attend() {
    const unlisten = onWindow({
      pagehide: () => this.#leave(),
      pageshow: (event) => event.persisted && this.#join(),
      visibilitychange: () => (hidden() ? this.#hidden() : this.#visible()),
    });
    const checking = setInterval(() => this.#member.check(), PROBE);
    if (hidden()) this.#hidden();
    this.#unlisten = () => {
      unlisten();
      clearInterval(checking);
      clearTimeout(this.#pause);
    };
  }

  #hidden() {
    if (!this.#page.pauseHidden) return;
    this.#pause = after(1000 * this.#page.pauseHidden, () => {
      this.#leave();
      this.#set({ state: "recovering", reason: "hidden" });
    });
  }

  #visible() {
    clearTimeout(this.#pause);
    if (this.#member.id) this.#member.wake();
    else this.#join();
  }

  #join() {
    if (this.#member.id) return;
    if (this.#begun && this.state === "connected") this.#set({ state: "recovering" });
    this.#member.join();
  }

  #leave(linger) {
    this.#member.leave(linger);
    this.#dropCalls();
  }

  #end(status) {
    this.#unlisten();
    // That it was denied is to be heard before the next one tries.
    this.#leave(status.state === "denied" ? ROLL_CALL : 0);
    const error = this.#over(status);
    this.#dropCalls(error);
    for (const { waiting } of this.#wants.values()) {
      for (const { reject } of waiting.splice(0)) reject(error);
    }
    this.#online = [];
    this.#set(status);
  }

  #over(status) { return fault({ ...status, message: `it is ${status.state}` }); }

  // --- To the hub and from it ----------------------------------------------------------------

  /** Give all that a hub must know of this tab: what it wants and where it stands. */
  #presented() {
    this.#dropCalls();
    this.#news = undefined;
    const wants = [...this.#wants].filter(([, { token, fetch }]) => token || !fetch)
      .map(([channel, want]) => this.#wish(channel, want));
    return { wants, at: [...this.#at].filter(([channel]) => !this.#wants.has(channel)) };
  }

  #wish(channel, { token, data, renewable }) {
    return { channel, token, data, renewable, since: this.#at.get(channel) };
  }

  async #want(channel, failures = 0) {
    const want = this.#wants.get(channel);
    if (!want || this.#ended) return;
    const { fetch } = want;
    clearTimeout(want.retry);
    try {
      if (fetch) want.token = await given(fetch, channel);
    } catch {
      clearTimeout(want.retry); // It may have been asked twice.
      want.retry = after(pause(failures), () => this.#want(channel, failures + 1));
      return;
    }
    if (this.#wants.get(channel) !== want) return;
    if (fetch && !want.token) {
      this.#unsubscribed({ channel, reason: "no token" });
      this.#member.tell({ type: "unwant", channel });
    } else {
      this.#member.tell({ type: "want", ...this.#wish(channel, want) });
    }
  }

  #take({ type, ...message }) {
    if (message.own && !this.#wants.has(message.channel)) return;
    if (type === "pub") this.#published(message.channel, message.pub);
    else if (type === "sub") this.#subscribed(message);
    else if (type === "unsub") this.#unsubscribed(message);
    else if (type === "renew") this.#want(message.channel);
    else if (type === "status") this.#heed(message);
    else if (type === "reply") this.#calls.get(message.n)?.done(message.error, message.result);
    else if (type === "presence") {
      const { event, online } = message;
      this.#online = online || this.#online;
      this.#emit(PRESENCE, event.event === "state" ? { ...event, online: this.online } : event);
    }
  }

  #heed(news) {
    this.#news = news;
    const { status: { token: bad, ...status }, token } = news;
    if (status.state === "denied") {
      const own = this.#page.token;
      const others = bad !== undefined && own && own !== bad;
      if (others) this.#member.token = undefined; // Its own may be good.
      else this.#end(status);
      return;
    }
    this.#member.token = token || undefined;
    if (status.state === "connected" && this.#behind.size) return;
    if (status.state === "connecting" && this.#begun) status.state = "recovering";
    if (status.state === "connected" && this.state !== "connected") {
      if (this.state === "recovering") status.recovered = !this.#gaps.size;
      this.#gaps.clear();
      this.#begun = true;
    }
    this.#set(status);
    // The timers of a hub in the background are slow.
    if (status.retryIn && !this.#member.hub) {
      after(status.retryIn, () => this.#member.tell({ type: "wake" }));
    }
    if (status.state !== "connected") return;
    for (const call of this.#calls.values()) this.#begin(call);
  }

  #set(status) {
    const changed = JSON.stringify(status) !== JSON.stringify(this.#status);
    this.#status = status;
    if (changed) this.#emit(STATE, status.state, status);
  }

  // --- Channels --------------------------------------------------------------------------------

  #published(channel, pub) {
    const mine = this.#at.get(channel);
    if (mine && pub.offset) {
      if (pub.offset <= mine.offset || this.#behind.has(channel)) return;
      if (pub.offset > mine.offset + 1) {
        this.#set({ state: "recovering", reason: "this tab is behind" });
        this.#askFor(channel, mine);
        return;
      }
      this.#at.set(channel, { epoch: mine.epoch, offset: pub.offset });
    }
    this.#deliver(channel, pub);
  }

  #deliver(channel, pub) {
    const message = { channel, ...pub };
    this.#emit(channel, pub.data, message);
    this.#emit(MESSAGE, message);
  }

  /** Take what a channel begins with, and judge whether it goes on from where this tab was. */
  #subscribed({ channel, own, since, result }) {
    const { epoch, offset = 0, publications = [], recovered, data } = result;
    this.#granted[own ? "delete" : "add"](channel);
    const mine = this.#at.get(channel);
    const same = mine && mine.epoch === epoch;
    const reached = since && mine && since.epoch === mine.epoch && since.offset <= mine.offset;
    const whole = (recovered && reached) || (same && mine.offset >= offset);
    // That is of another place than this tab's.
    if (same && !whole && !(since?.epoch === epoch && since.offset === mine.offset)) {
      this.#askFor(channel, mine);
      return;
    }
    if (!epoch) this.#at.delete(channel);
    else if (!same || mine.offset < offset) this.#at.set(channel, { epoch, offset });
    if (mine && !whole) this.#gaps.add(channel);
    if (whole) {
      for (const pub of publications) {
        if (!same || pub.offset > mine.offset) this.#deliver(channel, pub);
      }
    }
    const event = mine ? (whole && "recovered") || "lost" : "subscribed";
    const outcome = { channel, event, data };
    this.#emit(CHANNEL, outcome);
    for (const { resolve } of this.#wants.get(channel)?.waiting.splice(0) || []) resolve(outcome);
    this.#caughtUp(channel);
  }

  /** Ask the hub for what was missed. Until it is there, this tab is not connected. */
  #askFor(channel, place) {
    this.#behind.add(channel);
    this.#member.tell({ type: "behind", channel, place });
  }

  #caughtUp(channel) {
    if (!this.#behind.delete(channel) || this.#behind.size) return;
    if (this.#news?.status.state === "connected") this.#heed(this.#news);
  }

  #unsubscribed({ channel, code, reason }) {
    this.#granted.delete(channel);
    this.#forget(channel, { code, reason });
    this.#emit(CHANNEL, { channel, event: "unsubscribed", code, reason });
    this.#caughtUp(channel);
  }

  /** Want a channel no more. One that is for all tabs still comes. */
  #forget(channel, why) {
    for (const { reject } of this.#wants.get(channel)?.waiting || []) reject(fault(why));
    this.#wants.delete(channel);
    if (!this.#granted.has(channel)) this.#at.delete(channel);
  }

  // --- Calls -----------------------------------------------------------------------------------

  #call(method, params) {
    if (this.#ended) return Promise.reject(this.#over(this.#status));
    return new Promise((resolve, reject) => {
      this.#numbers += 1;
      const n = this.#numbers;
      const timer = after(CALL, () => this.#calls.get(n)?.done({ message: "no answer in time" }));
      const done = (error, result) => {
        clearTimeout(timer);
        this.#calls.delete(n);
        if (error) reject(fault(error));
        else resolve(result);
      };
      const call = { done, sent: false, message: { type: "call", n, method, params } };
      this.#calls.set(n, call);
      if (this.state === "connected") this.#begin(call);
    });
  }

  #begin(call) {
    if (call.sent) return;
    call.sent = true;
    this.#member.tell(call.message);
  }

  /** Nobody can say what became of those that were sent. */
  #dropCalls(error) {
    for (const { sent, done } of [...this.#calls.values()]) {
      if (sent || error) done(error || { message: "connection lost" });
    }
  }
}
