// The channels of all tabs of a login: what the server is asked for, and who is told what comes.

import { DELAY, DELAY_MAX, after } from "./helpers.js";
import { Link } from "./link.js";

const PATIENCE_ASIDE = 1000; // of one that is to bring what a tab missed: it may wait for so long
const RECENT = 50; // publications of a channel that are kept for tabs that are behind

export class Hub {
  link;
  tabs = new Map(); // by id: what ends the watch over it
  joined; // called when a tab is taken in
  #page;
  #tell;
  #wanted = new Map(); // channel: what it is asked for with, by each tab that did
  #has = new Map(); // channel: data of the subscription
  #granted = new Set(); // those of them that are for all tabs
  #at = new Map(); // channel: position up to which all was told
  #recent = new Map(); // channel: its latest publications
  #due = new Set(); // channels that are yet to be had, before it is connected
  #behind = []; // [tab, channel, place] of those that wait for what they missed
  #aside; // the hub that brings it
  #online = new Set();
  #asked; // positions that were given to the server
  #client; // the server's id of the connection
  #status = { state: "connecting" };

  /** `tell` gives a message to all tabs, or to the one that it is `to`. */
  constructor(page, token, tell) {
    this.#page = page;
    this.#tell = tell;
    this.link = new Link(page, token, this);
  }

  stop() {
    this.link.stop();
    this.#aside?.stop();
    for (const unwatch of this.tabs.values()) unwatch?.();
  }

  // --- What the link tells ---------------------------------------------------------------------

  /** Give the positions of what is not asked for: the server knows what this login is to have. */
  positions() {
    this.#asked = new Map(this.#at);
    return Object.fromEntries([...this.#asked]
      .filter(([channel]) => !this.#wanted.has(channel))
      .map(([channel, at]) => [channel, { recover: true, ...at }]));
  }

  begun(result) {
    this.#client = result.client;
    this.#online.clear();
    this.#tellOnline({});
    const had = this.#granted;
    this.#has.clear();
    this.#granted = new Set(Object.keys(result.subs || {}));
    for (const channel of this.#granted) {
      this.#subscribed(channel, result.subs[channel], this.#asked.get(channel));
    }
    for (const channel of had) {
      if (!this.#has.has(channel) && !this.#wanted.has(channel)) this.#unsubscribed(channel, 2000);
    }
    this.#due.clear();
    for (const channel of this.#wanted.keys()) if (!this.#has.has(channel)) this.#ask(channel);
    this.#ready();
  }

  #ready() {
    const { live, wire } = this.link;
    if (this.#due.size || !live || this.#status.state === "connected") return;
    this.say({ state: "connected", transport: wire.name, client: this.#client });
  }

  say(status) {
    this.#status = status;
    this.#tellStatus();
  }

  beat() {
    this.#tell({ type: "beat" });
  }

  pushed({ channel, pub, join, leave, subscribe, unsubscribe, message }) {
    if (pub) this.#published(channel, pub);
    else if (join) this.#moved(channel, "join", join.info);
    else if (leave) this.#moved(channel, "leave", leave.info);
    else if (subscribe) {
      this.#granted.add(channel);
      this.#subscribed(channel, subscribe);
    } else if (unsubscribe) this.#unsubscribed(channel, unsubscribe.code, unsubscribe.reason);
    else if (message) this.#told(message.data);
  }

  /** Take what belongs to no channel: who is online. */
  #told(data) {
    const { presenceState, presenceNotification } = data || {};
    if (presenceState) {
      for (const user of presenceState.online || []) this.#online.add(user);
      this.#tellOnline({ more: presenceState.more });
    } else if (presenceNotification) {
      const { uid: user, event } = presenceNotification;
      this.#online[event === "online" ? "add" : "delete"](user);
      this.#tellOnline({ event, user });
    }
  }

  /** Tell who is online, and who just came or went. */
  #tellOnline({ event = "state", ...more }, to) {
    this.#tell({ type: "presence", to, online: [...this.#online], event: { event, ...more } });
  }

  // --- Channels ----------------------------------------------------------------------------

  /** Tell of a channel: one that was asked for belongs to the tabs that did. */
  #tellOf(channel, message) {
    const own = this.#wanted.has(channel) && !this.#granted.has(channel);
    this.#tell({ ...message, channel, own });
  }

  #moved(channel, event, info) {
    this.#tellOf(channel, { type: "presence", event: { event, channel, ...info } });
  }

  #published(channel, pub) {
    if (!this.#has.has(channel)) return; // It was just left.
    const at = this.#at.get(channel);
    if (at && pub.offset) {
      if (pub.offset <= at.offset) return;
      if (pub.offset > at.offset + 1) {
        this.link.wire.end(3010, "insufficient state"); // As the server says it, if it notices.
        return;
      }
      this.#at.set(channel, { epoch: at.epoch, offset: pub.offset });
      this.#keep(channel, [pub]);
    }
    this.#tellOf(channel, { type: "pub", pub });
  }

  /** Keep publications for tabs that are behind; give all that is known. */
  #keep(channel, publications) {
    const kept = this.#recent.get(channel) || [];
    const byOffset = new Map([...kept, ...publications].map((pub) => [pub.offset, pub]));
    const known = [...byOffset.values()].sort((a, b) => a.offset - b.offset);
    this.#recent.set(channel, known.slice(-RECENT));
    return known;
  }

  /** Ask for a channel, as the tab that wanted it first: each may have a token of its own. */
  #ask(channel) {
    const want = this.#wanted.get(channel);
    const [[from, { token, data }]] = want;
    const since = this.#at.get(channel);
    this.#due.add(channel);
    this.link.send("subscribe", { channel, token, data, ...(since && { recover: true, ...since }) },
      (error, result) => {
        if (error && !error.code) return; // The connection is lost: it is asked for again.
        this.#due.delete(channel);
        if (this.#wanted.get(channel) !== want) this.#release(channel);
        else if (!error) this.#subscribed(channel, result, since);
        else this.#refused(channel, from, error);
        this.#ready();
      });
  }

  #refused(channel, from, { code, message, temporary }) {
    const want = this.#wanted.get(channel);
    if (code === 105) return this.#tellPlace(channel); // The CMS gave it meanwhile.
    if (temporary) {
      return after(DELAY + Math.random() * DELAY_MAX, () => {
        if (this.link.live && this.#wanted.has(channel) && !this.#has.has(channel)) this.#ask(channel);
      });
    }
    if (code === 109 && want.get(from)?.renewable) return this.#renew(channel);
    want.delete(from);
    if (!want.size) return this.#unsubscribed(channel, code, message);
    this.#tell({ type: "unsub", to: from, channel, code, reason: message });
    return this.#ask(channel);
  }

  /** Have a tab bring a new token for its channel. */
  #renew(channel) {
    for (const [to, { renewable }] of this.#wanted.get(channel) || []) {
      if (renewable) return this.#tell({ type: "renew", to, channel });
    }
    return undefined;
  }

  #subscribed(channel, result, since) {
    const { epoch, offset = 0, publications = [], data, expires, ttl } = result;
    if (this.#at.get(channel)?.epoch !== epoch) this.#recent.delete(channel);
    if (epoch) this.#at.set(channel, { epoch, offset });
    else this.#at.delete(channel);
    this.#keep(channel, publications);
    this.#has.set(channel, data);
    this.#tellOf(channel, { type: "sub", result, since });
    if (!expires) return;
    const { wire } = this.link;
    const due = () => this.link.wire === wire && this.#has.has(channel);
    after(1000 * ttl, () => due() && this.#renew(channel));
  }

  #unsubscribed(channel, code, reason) {
    this.#has.delete(channel);
    if (code >= 2500 && code < 3000 && this.#wanted.has(channel)) {
      this.#ask(channel);
      return;
    }
    this.#tellOf(channel, { type: "unsub", code, reason });
    this.#wanted.delete(channel);
    for (const known of [this.#at, this.#recent, this.#granted]) known.delete(channel);
  }

  /** Leave a channel that no tab wants any more. */
  #release(channel) {
    if (this.#wanted.has(channel) || this.#granted.has(channel)) return;
    for (const known of [this.#has, this.#at, this.#recent]) known.delete(channel);
    this.link.send("unsubscribe", { channel });
  }

  // --- Tabs --------------------------------------------------------------------------------

  /** Take a message of a tab. */
  hear({ type, from, n, ...message }) {
    if (type === "join") this.#join(from, message);
    else if (type === "want") this.#want(from, message);
    else if (type === "unwant") this.#unwant(from, message.channel);
    else if (type === "behind") this.#catchUp(from, message.channel, message.place);
    else if (type === "bye") this.#gone(from);
    else if (type === "wake") {
      this.link.wake();
      this.#tellStatus(from);
    } else if (type === "call") {
      this.link.send(message.method, message.params,
        (error, result) => this.#tell({ type: "reply", to: from, n, error, result }));
    }
  }

  /** Take in a tab, or what it says anew: what it wants and where it stands. */
  #join(from, { wants, at }) {
    if (!this.tabs.has(from)) this.tabs.set(from, this.#page.watch(from, () => this.#gone(from)));
    for (const want of wants) this.#want(from, want);
    for (const [channel, place] of at) this.#goOn(channel, place);
    for (const channel of this.#has.keys()) {
      if (!this.#wanted.get(channel)?.has(from)) this.#tellPlace(channel, from);
    }
    this.#tellOnline({}, from);
    this.#tellStatus(from);
    this.joined?.();
  }

  #tellStatus(to) {
    const status = this.#status;
    this.#tell({ type: "status", to, status, token: status.token || this.link.token });
  }

  /** Go on from the foremost of the tabs: who is behind asks, and no other tab loses by it. */
  #goOn(channel, place) {
    const top = this.#at.get(channel);
    const further = !top || (top.epoch === place.epoch && top.offset < place.offset);
    if (further && !this.#has.has(channel)) this.#at.set(channel, place);
  }

  /** Tell a tab what it missed of a channel. `found` is the server's answer to that. */
  #catchUp(from, channel, place, found) {
    if (!this.link.live || !this.#has.has(channel)) return; // It sees anew when the channel is there again.
    const { epoch, offset } = this.#at.get(channel) || {};
    const missed = this.#keep(channel, found?.publications || [])
      .filter((pub) => pub.offset > place.offset && pub.offset <= offset);
    const whole = missed.length === offset - place.offset ||
      (found?.recovered && found.offset >= offset - RECENT); // In mode "cache" it is the latest alone.
    const recovered = whole && epoch === place.epoch;
    if (recovered || found) {
      this.#tellPlace(channel, from, recovered && { recovered, publications: missed }, place);
    } else {
      this.#behind.push([from, channel, place]);
      this.#lookAside();
    }
  }

  /** Ask the server for what is not known here: by another hub, for this one goes on for all. */
  #lookAside() {
    if (this.#aside || !this.#behind.length) return; // One at a time.
    const [from, channel, place] = this.#behind.shift();
    const { token, data } = this.#wanted.get(channel)?.get(from) || {};
    const wants = this.#granted.has(channel) ? [] : [{ channel, token, data }];
    const aside = new Hub(this.#page, this.link.token, ({ channel: of, result, status }) => {
      const over = status && (status.retryIn > PATIENCE_ASIDE || status.state !== "connecting");
      if (this.#aside !== aside || (of !== channel && !over)) return;
      this.#aside = undefined;
      aside.stop();
      this.#catchUp(from, channel, place, result || {});
      // That may be all that the others need.
      for (const entry of this.#behind.splice(0)) this.#catchUp(...entry);
    });
    aside.hear({ type: "join", from, wants, at: [[channel, place]] });
    this.#aside = aside;
    aside.link.begin();
  }

  #tellPlace(channel, to, more, since) {
    const result = { ...this.#at.get(channel), data: this.#has.get(channel), ...more };
    this.#tellOf(channel, { type: "sub", to, result, since });
  }

  #want(from, { channel, token, data, since, renewable }) {
    const known = this.#wanted.get(channel);
    const before = known?.get(from);
    const renewed = before?.renewable && before.token !== token;
    this.#wanted.set(channel, (known || new Map()).set(from, { token, data, renewable }));
    const live = this.link.live;
    const has = this.#has.has(channel);
    if (since) this.#goOn(channel, since);
    if (renewed && has && live) this.link.send("sub_refresh", { channel, token });
    else if (has) this.#tellPlace(channel, from);
    if (live && !has && !this.#due.has(channel) && (!known || renewed)) this.#ask(channel);
  }

  #unwant(from, channel) {
    const want = this.#wanted.get(channel);
    if (!want?.delete(from) || want.size) return;
    this.#wanted.delete(channel);
    if (this.#has.has(channel)) this.#release(channel);
  }

  #gone(from) {
    this.tabs.get(from)?.();
    this.tabs.delete(from);
    this.#behind = this.#behind.filter(([tab]) => tab !== from);
    for (const channel of [...this.#wanted.keys()]) this.#unwant(from, channel);
  }
}
