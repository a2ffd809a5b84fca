// Pages in a real browser, driven by a test: a command (JSON) on each line of the
// standard input, an event (JSON) on each line of the standard output.
//
//   node browser.mjs PATH-OF-CHROMIUM
//
// A command {"do": NAME, …} is answered by {"event": "done", "do": NAME, "result"?: …} or by
// {"event": "failed", "do": NAME, "message"}. In between, {"event": KIND, "page": NAME, …} is what a
// page records, and its requests. Each person is a browser context: with cookies of its own.
// The end of the input is the end of the browser.

import readline from "node:readline";
import { chromium } from "playwright-core";

const [executablePath] = process.argv.slice(2);
const PATIENCE = 15000;

const print = (event, fields = {}) => process.stdout.write(`${JSON.stringify({ event, ...fields })}\n`);

const browser = await chromium.launch({
  executablePath,
  headless: true,
  args: ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync"],
});
const contexts = new Map(); // by person
const pages = new Map(); // by name
const names = new Map(); // of pages
const frozen = new Map(); // by page, what stops its scripts
let received = []; // all text that came to the browser, or promises of it

async function contextOf(person, without) {
  if (!contexts.has(person)) {
    const context = await browser.newContext();
    context.setDefaultTimeout(PATIENCE);
    await context.exposeBinding("record", ({ page }, kind, fields) => {
      print(kind, { page: names.get(page), ...fields });
    });
    for (const name of without) await context.addInitScript(`delete window[${JSON.stringify(name)}]`);
    contexts.set(person, context);
  }
  return contexts.get(person);
}

async function textOf(response) {
  const headers = await response.allHeaders().catch(() => ({}));
  const body = await response.text().catch(() => "");
  return `${JSON.stringify(headers)}\n${body}`;
}

function listen(page, name) {
  page.on("pageerror", (error) => print("pageerror", { page: name, text: String(error) }));
  page.on("request", (request) => print("request", { page: name, url: request.url() }));
  page.on("response", (response) => received.push(textOf(response)));
  page.on("websocket", (websocket) => {
    print("request", { page: name, url: websocket.url() });
    websocket.on("framereceived", ({ payload }) => received.push(String(payload)));
  });
}

const commands = {
  open: async ({ page: name, person, url, without = [] }) => {
    const page = await (await contextOf(person, without)).newPage();
    pages.set(name, page);
    names.set(page, name);
    listen(page, name);
    await page.goto(url);
  },
  goto: async ({ page, url }) => { await pages.get(page).goto(url); },
  run: ({ page, script }) => pages.get(page).evaluate(script),
  close: async ({ page }) => { await pages.get(page).close(); },
  // End the process of a page: it has no time for a last word.
  crash: async ({ page: name }) => {
    const page = pages.get(name);
    const session = await page.context().newCDPSession(page);
    const crashed = page.waitForEvent("crash");
    session.send("Page.crash").catch(() => {});
    await crashed;
  },
  // Stop the scripts of a page, as a browser does that freezes tabs in the background; go on.
  freeze: async ({ page: name }) => {
    const page = pages.get(name);
    const session = await page.context().newCDPSession(page);
    frozen.set(name, session);
    await session.send("Debugger.enable");
    await session.send("Debugger.pause");
  },
  thaw: async ({ page: name }) => {
    await frozen.get(name).send("Debugger.disable");
    await frozen.get(name).detach();
  },
  offline: async ({ person, offline }) => { await contexts.get(person).setOffline(offline); },
  // Have a page be in the background, as it is told; a headless browser shows all of them.
  hide: ({ page, hidden }) => pages.get(page).evaluate((state) => {
    Object.defineProperty(document, "visibilityState", { configurable: true, value: state });
    document.dispatchEvent(new Event("visibilitychange", { bubbles: true }));
  }, hidden ? "hidden" : "visible"),
  // Which of these texts came to the browser, or stand in its pages, so far?
  search: async ({ texts }) => {
    const shown = await Promise.all([...pages.values()].filter((page) => !page.isClosed())
      .map((page) => page.content()));
    // The answer to a poll that is under way is not there yet.
    const waited = new Promise((resolve) => { setTimeout(resolve, 500, ""); });
    const come = await Promise.all(received.map((each) => Promise.race([each, waited])));
    const all = [...come, ...shown].join("\n");
    return { found: texts.filter((text) => all.includes(text)), length: all.length };
  },
  clear: async () => {
    for (const context of contexts.values()) await context.close();
    for (const each of [contexts, pages, names]) each.clear();
    received = [];
  },
};

async function run(line) {
  const { do: name, ...rest } = JSON.parse(line);
  try {
    print("done", { do: name, result: await commands[name](rest) });
  } catch (error) {
    print("failed", { do: name, message: error.message ?? String(error) });
  }
}

const input = readline.createInterface({ input: process.stdin });
input.on("line", run);
input.on("close", async () => {
  await browser.close();
  process.exit(0);
});
print("ready");
