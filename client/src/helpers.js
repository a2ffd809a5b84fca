// What the other parts have in common. All times are in milliseconds.

export const VERSION = "0.1.0";
export const DELAY = 500; // before the first attempt to come back, at most
export const DELAY_MAX = 20000; // before any attempt
export const PROBE = 5000; // for the answer of a connection that may have died in its sleep
export const REPLY = 30000; // for the CMS to say something; it may be slow
export const ROLL_CALL = 300; // for other tabs to say where they stand

export function fault({ code = 0, message, reason, temporary = false }) {
  return Object.assign(new Error(message || reason || "refused"), { code, temporary });
}

/** Do it later; a timer that is longer than it can be would fire at once. */
export function after(time, act) {
  return setTimeout(act, Math.min(time, 0x7fffffff));
}

/** Have a function of the page give something. One that takes too long fails. */
export async function given(act, ...values) {
  return Promise.race([act(...values), new Promise((resolve, reject) => {
    after(REPLY, () => reject(fault({ message: "no answer in time" })));
  })]);
}

/** How long to wait after so many failures: at random, so that not all come at once. */
export function pause(failures) {
  return Math.random() * Math.min(DELAY_MAX, DELAY * 2 ** failures);
}

/** Whether a close code, 3500 to 3999 or 4500 to 4999, is for good. */
export function staysAway(code) {
  return code >= 3500 && code < 5000 && code % 1000 >= 500;
}

export async function digest(text) {
  const bytes = await crypto.subtle.digest("SHA-256", new TextEncoder().encode(text));
  return String(new Uint8Array(bytes));
}

export function hidden() {
  return globalThis.document?.visibilityState === "hidden";
}

export function offline() {
  return globalThis.navigator?.onLine === false;
}

/** Listen to events of the window, if there is one; give what ends that. */
export function onWindow(events) {
  const ending = new AbortController();
  const { signal } = ending;
  for (const [name, act] of Object.entries(events)) {
    globalThis.addEventListener?.(name, act, { signal });
  }
  return () => ending.abort();
}
