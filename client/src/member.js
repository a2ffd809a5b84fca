// How a tab finds the hub of its login, or becomes it.
//
// All tabs of a login wait for one Web Lock; the one that gets it has the hub, and they talk by a
// BroadcastChannel. Each also holds a lock of its own: when that is free, the tab is gone. There is
// no SharedWorker: it would need a script of the page's own origin, and not all browsers have one.

import { ROLL_CALL, VERSION, after, digest, hidden } from "./helpers.js";
import { Hub } from "./hub.js";

const SILENT = 40000; // without a word of the hub: is it still there?
const ANSWER = 3000; // for its answer

/** `owner` gives what is to be told to a hub (`presented`), and takes what a hub tells (`take`). */
export class Member {
  id; // of this tab, while it takes part
  hub; // if it is here
  token; // that the hub connected with
  #page;
  #owner;
  #name; // of the lock and the channel of all tabs that share
  #bus;
  #hubId; // wherever it is
  #term = 0; // of that hub; each has a later one than those before it
  #ballot; // to withdraw from becoming the hub
  #heard = 0; // when the hub said something
  #asked = 0; // when it was asked whether it is there
  #unwatch; // the tab that the hub is in
  #resign = () => {};
  #release; // the lock that shows that this tab lives

  constructor(page, owner) {
    this.#page = { ...page, watch: (from, gone) => this.#watch(from, gone) };
    this.#owner = owner;
  }

  wake() {
    this.tell({ type: "wake" });
    if (this.hub) return;
    this.#asked ||= Date.now();
    after(ANSWER, () => this.check());
  }

  /** See whether the hub is still there: a browser may have frozen the tab that it is in. */
  check() {
    const now = Date.now();
    if (this.hub || !this.#bus || hidden()) return;
    if (this.#asked && now - this.#asked >= ANSWER) {
      this.#asked = 0;
      this.#campaign({ steal: true });
    } else if (!this.#asked && now - this.#heard > SILENT) {
      this.wake();
    }
  }

  async join() {
    if (this.id) return;
    const id = `${Math.random()} ${Date.now()}`;
    this.id = id;
    this.#asked = 0;
    if (this.#page.share && await this.#enter(id)) {
      this.#campaign({});
      this.present();
      this.wake();
    } else if (this.id === id) {
      this.#lead();
    }
  }

  /** Begin to share: true if this browser can. */
  async #enter(id) {
    const { url, identity, token, data } = this.#page;
    try {
      // Tabs with another version of this script have a hub of their own.
      const who = JSON.stringify([VERSION, url, !identity, identity || token, data]);
      const name = `twisted_push ${await digest(who)}`;
      const alive = new Promise((resolve) => { this.#release = resolve; });
      await new Promise((resolve, reject) => {
        const lock = `${name} ${id}`;
        navigator.locks.request(lock, () => { resolve(); return alive; }).catch(reject);
      });
      if (this.id !== id) return false;
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
      if (this.#ballot !== ballot || !this.hub) return;
      this.hub.stop();
      this.hub = undefined;
      this.#follow();
      this.#campaign({});
      this.present();
    }
  }

  #watch(from, gone) {
    if (from === this.id) return undefined;
    const watching = new AbortController();
    const how = { mode: "shared", signal: watching.signal };
    navigator.locks.request(`${this.#name} ${from}`, how, gone).catch(() => {});
    return () => watching.abort();
  }

  /** Have the hub, and first of all hear where the other tabs stand. */
  async #lead() {
    const id = this.id;
    const bus = this.#bus;
    const term = Math.max(this.#term + 1, Date.now());
    this.#term = term;
    const hub = new Hub(this.#page, this.token ?? this.#page.token, (message) => {
      if (message.to !== id) bus?.postMessage({ ...message, hub: id, term });
      if (!message.to || message.to === id) this.#owner.take(message);
    });
    this.hub = hub;
    this.#follow(id);
    this.#asked = 0;
    this.present();
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
    hub.link.begin();
  }

  /** Take part no more; another tab may have the hub after so long. */
  leave(linger = 0) {
    this.tell({ type: "bye" });
    this.#ballot?.abort();
    this.hub?.stop();
    if (linger && this.#bus) after(linger, this.#resign);
    else this.#resign();
    this.#release?.();
    this.#bus?.close();
    this.#follow();
    this.id = this.hub = this.#bus = this.#ballot = undefined;
  }

  /** Tell the hub all that it must know of this tab. */
  present() {
    this.tell({ type: "join", ...this.#owner.presented() });
  }

  tell(message) {
    if (this.hub) this.hub.hear({ ...message, from: this.id });
    else this.#bus?.postMessage({ ...message, from: this.id, to: "hub" });
  }

  #received(message) {
    if (message.to === "hub") {
      this.hub?.hear(message);
    } else if (!this.hub && (!message.to || message.to === this.id)) {
      const isNew = message.hub !== this.#hubId;
      // Of one that was, and does not know it yet; or of one that is not known here yet.
      if (message.term < this.#term || (isNew && message.type !== "lead" && !message.to)) return;
      this.#term = message.term;
      this.#heard = Date.now();
      this.#asked = 0;
      this.#follow(message.hub);
      if (message.type === "lead") this.present();
      else this.#owner.take(message);
    }
  }

  /** Know where the hub is. When its tab ends, the next one has it at once unless it is frozen. */
  #follow(hub) {
    if (this.#hubId === hub) return;
    this.#hubId = hub;
    this.#unwatch?.();
    this.#unwatch = hub && this.#watch(hub, () => this.wake());
  }
}
