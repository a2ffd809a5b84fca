/*! twisted_push for browsers 0.1.0. MIT license.
 *
 *   <script src="https://push.example.org/push.js" data-push-token="..."></script>
 *
 *   const push = Push.connect();
 *   push.on("article:1", (data) => { ... });
 *
 * A tab has the page's callbacks and knows how far it was told: its positions. A hub has the
 * connection. All tabs of one login have one hub, in the tab that holds a Web Lock; they talk by a
 * BroadcastChannel. A tab that shares with nobody has a hub of its own, and all else is the same.
 * The protocol is Centrifugal JSON, version 2. All times are in milliseconds.
 */
var Push = (function () {
  "use strict";

  const VERSION = "0.1.0";
  const PATIENCE = 5000; // for the first word over a transport, before the next one is tried
  const REPLY = 30000; // for the reply to connect, once something came: the CMS may be slow
  const LATE = 10000; // for which a ping may be late
  const CALL = 10000; // for the answer to a call
  const PROBE = 5000; // for the answer of a connection that may have died in its sleep
  const DELAY = 500; // before the first attempt to come back, at most
  const DELAY_MAX = 20000; // before any attempt
  const STABLE = 10000; // connected for so long: the delays start over
  const REMEMBER = 864e5; // for which a browser goes on with what worked
  const ROLL_CALL = 300; // for other tabs to say where they stand
  const SILENT = 40000; // without a word of the hub: is it still there?
  const ANSWER = 3000; // for its answer
  const RECENT = 50; // publications of a channel that a hub keeps for its tabs

  const script = typeof document === "object" ? document.currentScript : null;

  // --- Helpers -------------------------------------------------------------------------------

  /** Call all callbacks; one that fails stops no other. */
  function each(callbacks, ...values) {
    for (const callback of [...callbacks]) {
      try {
        callback(...values);
      } catch (error) {
        setTimeout(() => { throw error; });
      }
    }
  }

  function listen(callbacks, callback) {
    callbacks.add(callback);
    return () => { callbacks.delete(callback); };
  }

  function fault({ code = 0, message, reason, temporary = false }) {
    return Object.assign(new Error(message || reason || "refused"), { code, temporary });
  }

  /** Do it later; a timer that is longer than it can be would fire at once. */
  function after(time, act) {
    return setTimeout(act, Math.min(time, 0x7fffffff));
  }

  function staysAway(code) {
    return (code >= 3500 && code < 4000) || (code >= 4500 && code < 5000);
  }

  async function digest(text) {
    const bytes = await crypto.subtle.digest("SHA-256", new TextEncoder().encode(text));
    return [...new Uint8Array(bytes)].map((byte) => byte.toString(16).padStart(2, "0")).join("");
  }

  function hidden() {
    return typeof document === "object" && document.visibilityState === "hidden";
  }

  function offline() {
    return typeof navigator === "object" && navigator.onLine === false;
  }

  function onWindow(events) {
    if (typeof addEventListener !== "function") return () => {};
    for (const [name, act] of Object.entries(events)) addEventListener(name, act);
    return () => {
      for (const [name, act] of Object.entries(events)) removeEventListener(name, act);
    };
  }

  // --- Transports ----------------------------------------------------------------------------
  //
  // Each takes the server's address, the first command, and a wire: it gives that `send` and
  // `close`, and tells it what comes (`data`) and the end (`end(code, reason, delay)`).

  const TRANSPORTS = new Map(Object.entries({
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
  }));

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

  function remembered(url) {
    try {
      const { name, until } = JSON.parse(localStorage.getItem(`twisted_push ${url}`));
      return until > Date.now() ? name : undefined;
    } catch {
      return undefined; // Nothing there, or no storage.
    }
  }

  function remember(url, name) {
    try {
      const until = Date.now() + REMEMBER;
      localStorage.setItem(`twisted_push ${url}`, JSON.stringify({ name, until }));
    } catch {
      // No storage: the next page tries all again.
    }
  }

  // --- The hub -------------------------------------------------------------------------------

  class Hub {
    /** `tell` gives a message to all tabs, or to the one that it is `to`. */
    constructor(page, token, tell) {
      this.page = page;
      this.token = token;
      this.tell = tell;
      this.tabs = new Map(); // by id: what ends the watch over it
      this.wanted = new Map(); // channel: what it is asked for with, and by which tabs
      this.has = new Map(); // channel: data of the subscription
      this.granted = new Set(); // those of them that are for all tabs
      this.at = new Map(); // channel: position up to which all was told
      this.recent = new Map(); // channel: its latest publications
      this.replies = new Map(); // by id of the command
      this.due = new Set(); // channels that are yet to be had, before it is connected
      this.online = new Set();
      this.bad = new Set(); // transports that let too little through
      this.strikes = new Map(); // how often one of them did so, the last times
      this.commands = 0;
      this.failures = 0;
      this.earliest = 0; // The server wants no attempt before.
      this.opening = true; // Until the other tabs have said where they stand.
      this.status = { state: "connecting" };
      this.unlisten = onWindow({
        online: () => this.wake(),
        offline: () => this.wire && this.ended(0, "offline"),
      });
    }

    stop() {
      this.stopped = true;
      this.unlisten();
      this.drop();
      for (const unwatch of this.tabs.values()) unwatch();
    }

    // --- Connecting --------------------------------------------------------------------------

    async open() {
      clearTimeout(this.timer);
      if (this.wire || this.stopped || this.opening) return;
      this.opening = true;
      try {
        this.token ||= await this.page.fetchToken();
      } catch (error) {
        this.opening = false;
        if (!this.stopped) this.later(error.code, error.message);
        return;
      }
      this.opening = false;
      if (!this.stopped) this.attempt(this.order());
    }

    /** Transports to try in one go: after a loss those that worked, until they fail thrice. */
    order() {
      const { transports, url } = this.page;
      if (this.good && !this.bad.has(this.good) && this.failures < 4) return [this.good];
      const known = remembered(url);
      const rank = (name) => (this.bad.has(name) ? 2 : Number(name !== known));
      return [...transports].sort((a, b) => rank(a) - rank(b));
    }

    attempt([name, ...others]) {
      const wire = { name, others, since: 0, polls: name === "poll" };
      const mine = (act) => (...given) => { if (this.wire === wire) act(...given); };
      wire.data = mine((text) => this.data(text));
      wire.end = mine((code, reason, delay) => this.ended(code, reason, delay));
      this.wire = wire;
      this.silence(wire.polls ? REPLY : PATIENCE);
      this.asked = new Map(this.at);
      try {
        TRANSPORTS.get(name)(this.page.url, this.firstCommand(), wire);
      } catch (error) {
        wire.end(0, error.message);
      }
    }

    firstCommand() {
      const subs = Object.fromEntries([...this.asked]
        .filter(([channel]) => !this.wanted.has(channel))
        .map(([channel, at]) => [channel, { recover: true, ...at }]));
      const { token, page: { data } } = this;
      // Who polls could not go on from a first answer that is not this one's.
      const early = !this.wire.polls;
      const connect = { token, data, subs, name: "push.js", version: VERSION, early };
      return this.command("connect", connect, (error, result) => {
        if (error) this.notLetIn(error);
        else this.connected(result);
      });
    }

    notLetIn({ code, message, temporary }) {
      if (!code) return undefined; // The connection is lost.
      if (code === 109 && this.page.getToken) this.token = undefined;
      else if (!temporary) return this.deny(code, message);
      this.drop();
      return this.later(code, message);
    }

    connected(result) {
      const { wire } = this;
      wire.auth = { session: result.session, node: result.node };
      wire.since = Date.now();
      this.client = result.client;
      this.ping = 1000 * (result.ping || 25);
      this.silence(this.ping + LATE);
      if (this.good !== wire.name) remember(this.page.url, wire.name);
      this.good = wire.name;
      this.online.clear();
      this.tell({ type: "online", users: [] });
      this.expire(result);
      const had = this.granted;
      this.has.clear();
      this.granted = new Set(Object.keys(result.subs || {}));
      for (const channel of this.granted) {
        this.subscribed(channel, result.subs[channel], this.asked.get(channel));
      }
      for (const channel of had) {
        if (!this.has.has(channel) && !this.wanted.has(channel)) this.unsubscribed(channel, 2000);
      }
      this.due = new Set([...this.wanted.keys()].filter((channel) => !this.has.has(channel)));
      for (const channel of this.due) this.ask(channel);
      this.ready();
    }

    ready() {
      if (this.due.size || !this.wire?.since || this.status.state === "connected") return;
      this.say({ state: "connected", transport: this.wire.name, client: this.client });
    }

    /** See to a new token before the time is over; the page's own token just ends. */
    expire({ expires, ttl }) {
      clearTimeout(this.expiry);
      if (expires && this.page.getToken) this.expiry = after(1000 * ttl, () => this.refresh());
    }

    async refresh() {
      try {
        const token = await this.page.getToken();
        if (!this.wire?.since) return;
        this.send("refresh", { token }, (error, result) => {
          if (error) return;
          this.token = token;
          this.expire(result);
        });
      } catch {
        this.token = undefined; // Asked for again when it has ended.
      }
    }

    // --- The end of a connection -------------------------------------------------------------

    /** Give up if nothing comes for so long. */
    silence(patience) {
      const begun = Date.now();
      clearTimeout(this.silent);
      this.silent = setTimeout(() => {
        // A computer that slept is no fault of the transport's.
        this.wire.excused = patience === PROBE || Date.now() - begun > patience + LATE;
        this.ended(0, "silent");
      }, patience);
    }

    /** Note a connection that ended because pings did not come in time, or their answers. */
    judge({ name, since, pinged }) {
      const held = Date.now() - since > 2 * (this.ping + LATE);
      const strikes = (held ? 0 : this.strikes.get(name) || 0) + (pinged ? 1 : 2);
      this.strikes.set(name, strikes);
      // Something holds back what it should pass on: not even one came, or it is so again.
      if (strikes > 1) this.bad.add(name);
    }

    drop() {
      const { wire, replies } = this;
      this.wire = undefined;
      this.replies = new Map();
      clearTimeout(this.silent);
      clearTimeout(this.expiry);
      clearTimeout(this.timer);
      wire?.close?.();
      for (const done of replies.values()) done({ code: 0, message: "connection lost" });
    }

    ended(code = 0, reason = "", delay = 0) {
      const { wire } = this;
      const { others, since, excused } = wire;
      if (since && !excused && (code === 3012 || reason === "silent")) this.judge(wire);
      this.drop();
      if (staysAway(code)) return this.deny(code, reason);
      // The server itself has spoken: it is not for the transport.
      if (!since && others.length && code < 3000 && !delay && reason !== "offline") {
        return this.attempt(others);
      }
      if (since && Date.now() - since > STABLE) this.failures = 0;
      // A server that stops sends everybody away at once.
      if (code === 3001) this.failures = Math.max(this.failures, 2);
      if ((code === 3014 || code === 3005) && this.page.getToken) this.token = undefined;
      return this.later(code, reason, delay);
    }

    later(code, reason, delay = 0) {
      const advice = 1000 * (/^try again in (\d+) s$/.exec(reason)?.[1] || 0);
      const most = Math.min(DELAY_MAX, DELAY * 2 ** this.failures);
      this.failures += 1;
      // Offline it rather waits for the event.
      const told = Math.max(delay, advice);
      const least = offline() ? DELAY_MAX : told;
      this.earliest = Date.now() + told;
      const wait = Math.round(least + Math.random() * most);
      this.say({ state: "connecting", code, reason, retryIn: wait });
      this.timer = after(wait, () => this.open());
    }

    deny(code, reason) {
      const { token, page } = this;
      const invalid = code === 3500 || code < 3000;
      if (invalid && page.token && token !== page.token) {
        this.token = page.token; // That was another tab's.
        this.drop();
        return this.later(code, reason);
      }
      this.stop();
      return this.say({ state: "denied", code, reason, token: invalid ? token : undefined });
    }

    /** Somebody looks at a page: be there, and see whether the connection still is. */
    wake() {
      if (!this.wire) {
        if (Date.now() >= this.earliest) this.open();
      } else if (this.wire.since && Date.now() - this.heard > PROBE) {
        this.silence(PROBE);
        this.send("ping", {}, () => {});
      }
    }

    say(status) {
      this.status = status;
      this.tell({ type: "status", status, token: status.token || this.token });
    }

    // --- The wire ----------------------------------------------------------------------------

    command(method, params, done) {
      this.commands += 1;
      this.replies.set(this.commands, done);
      return JSON.stringify({ id: this.commands, [method]: params });
    }

    send(method, params, done) {
      this.wire.send(this.command(method, params, done));
    }

    data(text) {
      const { wire } = this;
      let messages;
      try {
        messages = text.split("\n").filter(Boolean).map((line) => JSON.parse(line));
      } catch {
        this.ended(0, "not the protocol"); // The page of a hotel, for example.
        return;
      }
      this.heard = Date.now();
      this.silence(wire.since ? this.ping + LATE : REPLY);
      for (const message of messages) {
        if (this.wire === wire) this.take(message || {});
      }
    }

    take({ id, push, error, ...result }) {
      const done = this.replies.get(id);
      if (push) {
        this.pushed(push);
      } else if (done) {
        this.replies.delete(id);
        done(error, Object.values(result)[0]);
      } else if (!id) {
        this.wire.pinged = true;
        // Of who polls, each poll is a sign of life.
        if (this.wire.since && !this.wire.polls) this.wire.send("{}");
        this.tell({ type: "beat" });
      }
    }

    pushed({ channel, pub, join, leave, subscribe, unsubscribe, message, disconnect, refresh }) {
      if (pub) this.published(channel, pub);
      else if (join) this.moved(channel, "join", join.info);
      else if (leave) this.moved(channel, "leave", leave.info);
      else if (subscribe) this.added(channel, subscribe);
      else if (unsubscribe) this.unsubscribed(channel, unsubscribe.code, unsubscribe.reason);
      else if (message) this.told(message.data);
      else if (disconnect) this.ended(disconnect.code, disconnect.reason);
      else if (refresh) this.expire(refresh);
    }

    /** Take what belongs to no channel: who is online. */
    told(data) {
      const { presenceState, presenceNotification } = data || {};
      if (presenceState) {
        for (const user of presenceState.online || []) this.online.add(user);
        this.tell({ type: "online", users: [...this.online], more: presenceState.more });
      } else if (presenceNotification) {
        const { uid, event } = presenceNotification;
        this.online[event === "online" ? "add" : "delete"](uid);
        this.tell({ type: "presence", event: { event, user: uid } });
      }
    }

    // --- Channels ----------------------------------------------------------------------------

    /** Tell of a channel: one that was asked for belongs to the tabs that did. */
    tellOf(channel, message) {
      const own = this.wanted.has(channel) && !this.granted.has(channel);
      this.tell({ ...message, channel, own });
    }

    moved(channel, event, info) {
      this.tellOf(channel, { type: "presence", event: { event, channel, ...info } });
    }

    added(channel, result) {
      this.granted.add(channel);
      this.subscribed(channel, result);
    }

    published(channel, pub) {
      if (!this.has.has(channel)) return; // It was just left.
      const at = this.at.get(channel);
      if (at && pub.offset) {
        this.at.set(channel, { epoch: at.epoch, offset: pub.offset });
        this.keep(channel, [pub]);
      }
      this.tellOf(channel, { type: "pub", pub });
    }

    /** Keep publications for tabs that are behind; what was kept from there on is among them. */
    keep(channel, publications) {
      if (!this.page.share) return;
      const kept = this.recent.get(channel) || [];
      const [{ offset } = { offset: Infinity }] = publications;
      const older = kept.filter((pub) => pub.offset < offset);
      this.recent.set(channel, [...older, ...publications].slice(-RECENT));
    }

    /** Ask for a channel, as the tab that wanted it first: each may have a token of its own. */
    ask(channel) {
      const want = this.wanted.get(channel);
      const [[from, { token, data }]] = want;
      const since = this.at.get(channel);
      this.due.add(channel);
      this.send("subscribe", { channel, token, data, ...(since && { recover: true, ...since }) },
        (error, result) => {
          if (error && !error.code) return; // The connection is lost: it is asked for again.
          this.due.delete(channel);
          if (this.wanted.get(channel) !== want) this.release(channel);
          else if (!error) this.subscribed(channel, result, since);
          else this.refused(channel, from, error);
          this.ready();
        });
    }

    refused(channel, from, { code, message, temporary }) {
      const want = this.wanted.get(channel);
      if (code === 105) return this.tellPlace(channel); // The CMS gave it meanwhile.
      if (temporary) return after(DELAY + Math.random() * DELAY_MAX, () => this.askAgain(channel));
      if (code === 109 && want.get(from)?.renewable) return this.renew(channel);
      want.delete(from);
      if (!want.size) return this.unsubscribed(channel, code, message);
      this.tell({ type: "unsub", to: from, channel, code, reason: message });
      return this.ask(channel);
    }

    askAgain(channel) {
      if (this.wire?.since && this.wanted.has(channel) && !this.has.has(channel)) this.ask(channel);
    }

    /** Have a tab bring a new token for its channel. */
    renew(channel) {
      for (const [to, { renewable }] of this.wanted.get(channel) || []) {
        if (renewable) return this.tell({ type: "renew", to, channel });
      }
      return undefined;
    }

    subscribed(channel, result, since) {
      const { epoch, offset = 0, publications = [], data, expires, ttl } = result;
      if (this.at.get(channel)?.epoch !== epoch) this.recent.delete(channel);
      if (epoch) this.at.set(channel, { epoch, offset });
      else this.at.delete(channel);
      this.keep(channel, publications);
      this.has.set(channel, data);
      this.tellOf(channel, { type: "sub", result, since });
      if (!expires) return;
      const { wire } = this;
      after(1000 * ttl, () => this.wire === wire && this.has.has(channel) && this.renew(channel));
    }

    unsubscribed(channel, code, reason) {
      this.has.delete(channel);
      if (code >= 2500 && code < 3000 && this.wanted.has(channel)) {
        this.ask(channel);
        return;
      }
      this.tellOf(channel, { type: "unsub", code, reason });
      for (const known of [this.wanted, this.at, this.recent, this.granted]) known.delete(channel);
    }

    /** Leave a channel that no tab wants any more. */
    release(channel) {
      if (this.wanted.has(channel) || this.granted.has(channel)) return;
      for (const known of [this.has, this.at, this.recent]) known.delete(channel);
      if (this.wire?.since) this.send("unsubscribe", { channel }, () => {});
    }

    // --- Tabs --------------------------------------------------------------------------------

    /** Take a message of a tab. */
    hear({ type, from, n, ...message }) {
      if (type === "join") this.join(from, message);
      else if (type === "want") this.want(from, message);
      else if (type === "unwant") this.unwant(from, message.channel);
      else if (type === "bye") this.gone(from);
      else if (type === "wake") {
        this.wake();
        this.tellStatus(from);
      } else if (type === "call") {
        const answer = (error, result) => this.tell({ type: "reply", to: from, n, error, result });
        if (this.wire?.since) this.send(message.method, message.params, answer);
        else answer({ code: 0, message: "connection lost" });
      }
    }

    /** Take in a tab, or what it says anew: what it wants and where it stands. */
    join(from, { wants, at }) {
      if (!this.tabs.has(from)) this.tabs.set(from, this.page.watch(from, () => this.gone(from)));
      for (const want of wants) this.want(from, want);
      for (const [channel, place] of at) this.catchUp(from, channel, place);
      const known = new Set([...wants.map(({ channel }) => channel), ...at.map(([name]) => name)]);
      for (const channel of this.has.keys()) if (!known.has(channel)) this.tellPlace(channel, from);
      this.tell({ type: "online", to: from, users: [...this.online] });
      this.tellStatus(from);
      this.joined?.();
    }

    tellStatus(to) {
      this.tell({ type: "status", to, status: this.status, token: this.token });
    }

    /** Tell a tab what it missed of a channel; what is gone here comes from the server. */
    catchUp(from, channel, place) {
      const top = this.at.get(channel);
      const behind = top && top.epoch === place.epoch && place.offset < top.offset;
      if (!this.has.has(channel)) {
        if (top && !behind) return;
        this.at.set(channel, place);
        // It is just being asked for, from further on.
        if (this.wire && (!this.wire.since || this.due.has(channel))) this.resync();
      } else if (!behind) {
        this.tellPlace(channel, from);
      } else {
        const missed = (this.recent.get(channel) || []).filter((pub) => pub.offset > place.offset);
        if (missed.length === top.offset - place.offset) {
          this.tellPlace(channel, from, { recovered: true, publications: missed }, place);
        } else {
          this.at.set(channel, place);
          this.resync();
        }
      }
    }

    /** Connect anew, from where the hindmost of the tabs stands. */
    resync() {
      const { wire } = this;
      queueMicrotask(() => {
        if (!wire || this.wire !== wire) return;
        if (wire.since) this.say({ state: "connecting", reason: "a tab is behind" });
        this.drop();
        this.open();
      });
    }

    tellPlace(channel, to, more, since) {
      const result = { ...this.at.get(channel), data: this.has.get(channel), ...more };
      this.tellOf(channel, { type: "sub", to, result, since });
    }

    want(from, { channel, token, data, since, renewable }) {
      const known = this.wanted.get(channel);
      const before = known?.get(from);
      const renewed = before?.renewable && before.token !== token;
      this.wanted.set(channel, (known || new Map()).set(from, { token, data, renewable }));
      const live = this.wire?.since;
      const has = this.has.has(channel);
      if (renewed && has && live) this.send("sub_refresh", { channel, token }, () => {});
      else if (since) this.catchUp(from, channel, since);
      else if (has) this.tellPlace(channel, from);
      if (live && !has && !this.due.has(channel) && (!known || renewed)) this.ask(channel);
    }

    unwant(from, channel) {
      const want = this.wanted.get(channel);
      if (!want?.delete(from) || want.size) return;
      this.wanted.delete(channel);
      if (this.has.has(channel)) this.release(channel);
    }

    gone(from) {
      this.tabs.get(from)?.();
      this.tabs.delete(from);
      for (const channel of [...this.wanted.keys()]) this.unwant(from, channel);
    }
  }

  // --- The tab -------------------------------------------------------------------------------

  class Tab {
    #page;
    #callbacks = new Map(); // channel: functions
    #listeners = { message: new Set(), state: new Set(), channel: new Set(), presence: new Set() };
    #at; // channel: position
    #wants = new Map(); // channel: what it is asked for with
    #behind = new Set(); // channels of which something was missed, and is yet to come
    #gaps = new Set(); // channels of which something is lost, since it was connected
    #calls = new Map(); // by number
    #numbers = 0;
    #online = new Set();
    #status = { state: "connecting" };
    #begun = false; // It was connected before.
    #id; // of this tab, while it takes part
    #name; // of the lock and the channel of all tabs that share
    #bus;
    #hub; // if it is here
    #hubId; // wherever it is
    #term = 0; // of that hub; each has a later one than those before it
    #unwatch = () => {}; // the tab that it is in
    #token; // that the hub connected with
    #ballot; // to withdraw from becoming the hub
    #resign = () => {};
    #release = () => {}; // the lock that shows that this tab lives
    #heard = 0; // when the hub said something
    #asked = 0; // when it was asked whether it is there
    #timers = {};
    #unlisten;

    constructor(page) {
      this.#page = {
        ...page,
        fetchToken: async () => (page.getToken ? page.getToken() : ""),
        watch: (from, gone) => this.#watch(from, gone),
      };
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

    onMessage(callback) { return listen(this.#listeners.message, callback); }
    onState(callback) { return listen(this.#listeners.state, callback); }
    onChannel(callback) { return listen(this.#listeners.channel, callback); }
    onPresence(callback) { return listen(this.#listeners.presence, callback); }

    // --- What a page does ----------------------------------------------------------------------

    subscribe(channel, { token, since, data } = {}) {
      const renewable = typeof token === "function";
      const waiting = this.#wants.get(channel)?.waiting || [];
      const want = { data, waiting, ...(renewable ? { fetch: token, renewable } : { token }) };
      if (since) this.#at.set(channel, { epoch: since.epoch, offset: since.offset });
      this.#wants.set(channel, want);
      const answer = new Promise((resolve, reject) => { want.waiting.push({ resolve, reject }); });
      answer.catch(() => {}); // Who does not look at it listens to `onChannel`.
      this.#want(channel);
      return answer;
    }

    unsubscribe(channel) {
      this.#wants.delete(channel);
      this.#at.delete(channel);
      this.#tell({ type: "unwant", channel });
    }

    async publish(channel, data) { await this.#call("publish", { channel, data }); }

    async rpc(method, data) { return (await this.#call("rpc", { method, data })).data; }

    async presence(channel) { return (await this.#call("presence", { channel })).presence || {}; }

    async history(channel, options) {
      const { publications = [], ...place } = await this.#call("history", { channel, ...options });
      return { publications, ...place };
    }

    close() {
      if (this.state !== "closed") this.#end({ state: "closed" });
    }

    /** Connect again, after it was denied or closed. */
    reconnect() {
      if (!this.#ended) return;
      this.#attend();
      this.#begun = false;
      this.#set({ state: "connecting" });
      this.#join();
    }

    // --- The page's life -----------------------------------------------------------------------

    get #ended() { return ["denied", "closed"].includes(this.state); }

    #attend() {
      const windows = onWindow({
        pagehide: () => this.#leave(),
        pageshow: (event) => event.persisted && this.#join(),
      });
      const seen = () => (hidden() ? this.#hidden() : this.#visible());
      if (typeof document === "object") document.addEventListener("visibilitychange", seen);
      if (hidden()) this.#hidden();
      this.#timers.check = setInterval(() => this.#check(), PROBE);
      this.#unlisten = () => {
        windows();
        if (typeof document === "object") document.removeEventListener("visibilitychange", seen);
        clearInterval(this.#timers.check);
        clearTimeout(this.#timers.pause);
      };
    }

    #hidden() {
      if (!this.#page.pauseHidden) return;
      this.#timers.pause = after(1000 * this.#page.pauseHidden, () => {
        this.#leave();
        this.#set({ state: "recovering", reason: "hidden" });
      });
    }

    #visible() {
      clearTimeout(this.#timers.pause);
      if (!this.#id) this.#join();
      else this.#wake();
    }

    #wake() {
      this.#tell({ type: "wake" });
      if (this.#hub) return;
      this.#asked ||= Date.now();
      after(ANSWER, () => this.#check());
    }

    /** See whether the hub is still there: a browser may have frozen the tab that it is in. */
    #check() {
      const now = Date.now();
      if (this.#hub || !this.#bus || hidden()) return;
      if (this.#asked && now - this.#asked >= ANSWER) {
        this.#asked = 0;
        this.#campaign({ steal: true });
      } else if (!this.#asked && now - this.#heard > SILENT) {
        this.#wake();
      }
    }

    // --- Taking part ---------------------------------------------------------------------------

    async #join() {
      if (this.#id) return;
      const id = Math.random().toString(36).slice(2) + Date.now().toString(36);
      this.#id = id;
      this.#asked = 0;
      if (this.#begun && this.state === "connected") this.#set({ state: "recovering" });
      if (this.#page.share && await this.#enter(id)) {
        this.#campaign({});
        this.#present();
        this.#wake();
      } else if (this.#id === id) {
        this.#lead();
      }
    }

    /** Begin to share: true if this browser can. */
    async #enter(id) {
      const { url, identity, token = "", data } = this.#page;
      try {
        const who = JSON.stringify([url, identity === undefined, identity ?? token, data]);
        const name = `twisted_push ${await digest(who)}`;
        const alive = new Promise((resolve) => { this.#release = resolve; });
        await new Promise((resolve, reject) => {
          const lock = `${name} ${id}`;
          navigator.locks.request(lock, () => { resolve(); return alive; }).catch(reject);
        });
        if (this.#id !== id) return false;
        this.#name = name;
        this.#bus = new BroadcastChannel(name);
        this.#bus.onmessage = ({ data: message }) => this.#received(message);
        return true;
      } catch {
        return false;
      }
    }

    /** Wait for becoming the hub. */
    async #campaign({ steal = false }) {
      this.#ballot?.abort();
      const ballot = new AbortController();
      this.#ballot = ballot;
      try {
        const how = steal ? { steal } : { signal: ballot.signal };
        await navigator.locks.request(this.#name, how, () => {
          if (this.#ballot !== ballot) return undefined;
          const reign = new Promise((resolve) => { this.#resign = resolve; });
          this.#lead();
          return reign;
        });
      } catch {
        // Withdrawn; or another tab took this one for dead, and the hub is there now.
        if (this.#ballot !== ballot || !this.#hub) return;
        this.#hub.stop();
        this.#hub = undefined;
        this.#follow();
        this.#campaign({});
        this.#present();
      }
    }

    #watch(from, gone) {
      if (from === this.#id) return () => {};
      const watching = new AbortController();
      const how = { mode: "shared", signal: watching.signal };
      navigator.locks.request(`${this.#name} ${from}`, how, gone).catch(() => {});
      return () => watching.abort();
    }

    /** Have the hub, and first of all hear where the other tabs stand. */
    async #lead() {
      const id = this.#id;
      const bus = this.#bus;
      const term = Math.max(this.#term + 1, Date.now());
      this.#term = term;
      const hub = new Hub(this.#page, this.#token ?? this.#page.token, (message) => {
        if (message.to !== id) bus?.postMessage({ ...message, hub: id, term });
        if (!message.to || message.to === id) this.#take(message);
      });
      this.#hub = hub;
      this.#follow(id);
      this.#asked = 0;
      this.#present();
      if (bus) {
        bus.postMessage({ type: "lead", hub: id, term });
        const { pending } = await navigator.locks.query();
        const others = pending.filter(({ name }) => name === this.#name).length;
        await new Promise((resolve) => {
          hub.joined = () => hub.tabs.size > others && resolve();
          hub.joined();
          after(ROLL_CALL, resolve);
        });
      }
      hub.opening = false;
      hub.open();
    }

    /** Take part no more; another tab may have the hub after so long. */
    #leave(linger = 0) {
      this.#tell({ type: "bye" });
      this.#ballot?.abort();
      this.#hub?.stop();
      if (linger && this.#bus) after(linger, this.#resign);
      else this.#resign();
      this.#release();
      this.#bus?.close();
      this.#follow();
      this.#id = this.#hub = this.#bus = this.#ballot = undefined;
      this.#dropCalls();
    }

    #end(status) {
      this.#unlisten();
      // That it was denied is to be heard before the next one tries.
      this.#leave(status.state === "denied" ? ROLL_CALL : 0);
      const error = fault({ ...status, message: `it is ${status.state}` });
      for (const { done } of [...this.#calls.values()]) done(error);
      for (const { waiting } of this.#wants.values()) {
        for (const { reject } of waiting.splice(0)) reject(error);
      }
      this.#online.clear();
      this.#set(status);
    }

    // --- To the hub and from it ----------------------------------------------------------------

    #tell(message) {
      if (this.#hub) this.#hub.hear({ ...message, from: this.#id });
      else this.#bus?.postMessage({ ...message, from: this.#id, to: "hub" });
    }

    /** Tell the hub all that it must know of this tab. */
    #present() {
      this.#dropCalls();
      const wants = [...this.#wants].filter(([, { token, fetch }]) => token || !fetch)
        .map(([channel, want]) => this.#wish(channel, want));
      const at = [...this.#at].filter(([channel]) => !this.#wants.has(channel));
      this.#tell({ type: "join", wants, at });
    }

    #wish(channel, { token, data, renewable }) {
      return { channel, token, data, renewable, since: this.#at.get(channel) };
    }

    async #want(channel) {
      const want = this.#wants.get(channel);
      if (!want) return;
      try {
        if (want.fetch) want.token = await want.fetch(channel);
        if (this.#wants.get(channel) === want) {
          this.#tell({ type: "want", ...this.#wish(channel, want) });
        }
      } catch (error) {
        this.#unsubscribed({ channel, code: error.code, reason: error.message });
        this.#tell({ type: "unwant", channel });
      }
    }

    #received(message) {
      if (message.to === "hub") {
        this.#hub?.hear(message);
      } else if (!this.#hub && (!message.to || message.to === this.#id)) {
        const isNew = message.hub !== this.#hubId;
        // Of one that was, and does not know it yet; or of one that is not known here yet.
        if (message.term < this.#term || (isNew && message.type !== "lead" && !message.to)) return;
        this.#term = message.term;
        this.#heard = Date.now();
        this.#asked = 0;
        this.#follow(message.hub);
        if (message.type === "lead") this.#present();
        else this.#take(message);
      }
    }

    /** Know where the hub is. When its tab ends, the next one has it at once unless it is frozen. */
    #follow(hub) {
      if (this.#hubId === hub) return;
      this.#hubId = hub;
      this.#unwatch();
      this.#unwatch = hub ? this.#watch(hub, () => this.#wake()) : () => {};
    }

    #take({ type, ...message }) {
      if (message.own && !this.#wants.has(message.channel)) return;
      if (type === "pub") this.#published(message.channel, message.pub);
      else if (type === "sub") this.#subscribed(message.channel, message.result, message.since);
      else if (type === "unsub") this.#unsubscribed(message);
      else if (type === "renew") this.#want(message.channel);
      else if (type === "status") this.#heed(message);
      else if (type === "reply") this.#calls.get(message.n)?.done(message.error, message.result);
      else if (type === "online") {
        this.#online = new Set(message.users);
        each(this.#listeners.presence, { event: "state", online: this.online, more: message.more });
      } else if (type === "presence") {
        const { event } = message;
        if (event.event === "online") this.#online.add(event.user);
        if (event.event === "offline") this.#online.delete(event.user);
        each(this.#listeners.presence, event);
      }
    }

    #heed({ status: { token: bad, ...status }, token }) {
      if (status.state === "denied") {
        const own = this.#page.token;
        if (bad !== undefined && own && own !== bad) this.#token = undefined; // That was another's.
        else this.#end(status);
        return;
      }
      this.#token = token;
      if (status.state === "connecting" && this.#begun) status.state = "recovering";
      if (status.state === "connected" && this.state !== "connected") {
        if (this.state === "recovering") status.recovered = !this.#gaps.size;
        this.#gaps.clear();
        this.#begun = true;
      }
      this.#set(status);
      // The timers of a hub in the background are slow.
      if (status.retryIn && !this.#hub) after(status.retryIn, () => this.#tell({ type: "wake" }));
      if (status.state !== "connected") return;
      for (const call of this.#calls.values()) this.#begin(call);
    }

    #set(status) {
      const changed = JSON.stringify(status) !== JSON.stringify(this.#status);
      this.#status = status;
      if (changed) each(this.#listeners.state, status.state, status);
    }

    // --- Channels --------------------------------------------------------------------------------

    #published(channel, pub) {
      const mine = this.#at.get(channel);
      if (mine && pub.offset) {
        if (pub.offset <= mine.offset || this.#behind.has(channel)) return;
        if (pub.offset > mine.offset + 1) {
          this.#behind.add(channel);
          this.#present();
          return;
        }
        this.#at.set(channel, { epoch: mine.epoch, offset: pub.offset });
      }
      this.#deliver(channel, pub);
    }

    #deliver(channel, { data, ...rest }) {
      const message = { channel, data, ...rest };
      each(this.#callbacks.get(channel) || [], data, message);
      each(this.#listeners.message, message);
    }

    /** Take what a channel begins with, and judge whether it goes on from where this tab was. */
    #subscribed(channel, { epoch, offset = 0, publications = [], recovered, data }, since) {
      const mine = this.#at.get(channel);
      const same = mine && mine.epoch === epoch;
      const reached = since && mine && since.epoch === mine.epoch && since.offset <= mine.offset;
      const whole = (recovered && reached) || (same && mine.offset >= offset);
      this.#behind.delete(channel);
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
      each(this.#listeners.channel, outcome);
      for (const { resolve } of this.#wants.get(channel)?.waiting.splice(0) || []) resolve(outcome);
    }

    #unsubscribed({ channel, code, reason }) {
      const want = this.#wants.get(channel);
      for (const known of [this.#wants, this.#at, this.#behind]) known.delete(channel);
      for (const { reject } of want?.waiting || []) reject(fault({ code, reason }));
      each(this.#listeners.channel, { channel, event: "unsubscribed", code, reason });
    }

    // --- Calls -----------------------------------------------------------------------------------

    #call(method, params) {
      if (this.#ended) return Promise.reject(fault({ message: `it is ${this.state}` }));
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
      this.#tell(call.message);
    }

    /** Nobody can say what became of them. */
    #dropCalls() {
      for (const { sent, done } of [...this.#calls.values()]) {
        if (sent) done({ message: "connection lost" });
      }
    }
  }

  // --- For pages -------------------------------------------------------------------------------

  /** Give an attribute of the script's own element, or of the first element that has it. */
  function attribute(name) {
    if (typeof document !== "object") return undefined;
    const holder = script?.hasAttribute(name) ? script : document.querySelector(`[${name}]`);
    return holder?.getAttribute(name) ?? undefined;
  }

  function positionsOf(text) {
    try {
      return JSON.parse(text || "{}");
    } catch {
      throw new TypeError("data-push-positions is not JSON");
    }
  }

  function addressOf(url = attribute("data-push-url")) {
    const here = typeof location === "object" ? location.href : undefined;
    const address = new URL(url ?? (script?.src ? new URL(".", script.src) : "/"), here);
    return address.href.replace(/[?#].*$/, "").replace(/\/*$/, "/");
  }

  /** Whether this browser can have one connection for all its tabs: over https alone. */
  function canShare() {
    return typeof navigator === "object" && !!navigator.locks &&
      typeof BroadcastChannel === "function" && typeof crypto === "object" && !!crypto.subtle;
  }

  function connect(options = {}) {
    const { getToken, identity, share = true, transports = [...TRANSPORTS.keys()] } = options;
    const known = transports.filter((name) => TRANSPORTS.has(name));
    if (!known.length) throw new TypeError("transports: none that is known");
    const token = options.token ?? (getToken ? undefined : attribute("data-push-token"));
    const unknown = getToken && (identity ?? token) === undefined;
    return new Tab({
      ...options,
      url: addressOf(options.url),
      token,
      positions: options.positions ?? positionsOf(attribute("data-push-positions")),
      transports: known,
      share: share && canShare() && !unknown,
    });
  }

  return { connect, version: VERSION };
}());
