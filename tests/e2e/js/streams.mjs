// The public JavaScript client in a browser, on a page of another origin than the push server's,
// with one of its fallback transports.
//
//   node streams.mjs '{"url": …, "key": …, "page": PORT, "transport": …, "chromium": PATH}'
//
// Prints one JSON object: what was seen. A step that does not happen ends the script with an error
// that says which.

import { readFile } from "node:fs/promises";
import http from "node:http";
import { chromium } from "playwright-core";

const { url, key, page: port, transport, chromium: executablePath } = JSON.parse(process.argv[2]);
const PATIENCE = 15000;
const client = await readFile(new URL("../node_modules/centrifuge/dist/centrifuge.js", import.meta.url));

const pages = http.createServer((request, response) => {
  const script = request.url === "/centrifuge.js";
  response.setHeader("Content-Type", script ? "text/javascript" : "text/html");
  response.end(script ? client : "<!doctype html><script src=/centrifuge.js></script>");
});
await new Promise((resolve) => pages.listen(port, "127.0.0.1", resolve));

const browser = await chromium.launch({
  executablePath,
  headless: true,
  args: ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync"],
});

async function api(method, params) {
  const answer = await fetch(`${url}/api/${method}`, {
    method: "POST",
    headers: { "X-API-Key": key, "Content-Type": "application/json" },
    body: JSON.stringify(params),
  });
  return (await answer.json()).result;
}

// Open a page with a client whose events are kept in `window.events`.
async function open(host, token) {
  const page = await browser.newPage();
  page.setDefaultTimeout(PATIENCE);
  await page.goto(`http://${host}:${port}/`);
  await page.evaluate(({ url, transport, token }) => {
    window.events = [];
    window.client = new Centrifuge([{ transport, endpoint: `${url}/connection/${transport}` }], {
      token,
      emulationEndpoint: `${url}/emulation`,
      minReconnectDelay: 300,
      maxReconnectDelay: 600,
    });
    const keep = (name) => (context) => window.events.push({ name, ...context });
    for (const name of ["connecting", "connected", "disconnected", "publication"]) {
      window.client.on(name, keep(name));
    }
    window.client.on("error", ({ error }) => window.events.push({ name: "error", ...error }));
    window.room = window.client.newSubscription("chat:browser", {});
    for (const name of ["subscribed", "publication"]) window.room.on(name, keep(`room ${name}`));
    window.room.subscribe();
    window.client.connect();
  }, { url, transport, token });
  return page;
}

const events = (page, name) => page.evaluate(
  (wanted) => window.events.filter((event) => event.name === wanted), name);

async function wait(what, page, name, count = 1) {
  try {
    await page.waitForFunction(([wanted, least]) => (
      window.events.filter((event) => event.name === wanted).length >= least), [name, count]);
  } catch (error) {
    const seen = JSON.stringify(await page.evaluate(() => window.events));
    throw new Error(`${what}: ${error.message}: ${seen}`);
  }
}

const found = {};

try {
  const alice = await open("127.0.0.1", "alice-token");
  await wait("alice subscribes", alice, "room subscribed");
  const [{ transport: used }] = await events(alice, "connected");
  found.transport = used;

  await alice.evaluate(() => window.room.publish({ by: "the page ✓" }));
  await api("publish", { channel: "news", data: "by the cms" });
  await wait("she is told of what she says", alice, "room publication");
  await wait("and of the news", alice, "publication");
  found.rpc = await alice.evaluate(() => window.client.rpc("x", {}).catch((error) => error.code));

  await api("disconnect", { user: "alice", disconnect: { code: 3011, reason: "force reconnect" } });
  await wait("she is sent away", alice, "connecting", 2);
  for (const number of [1, 2, 3]) await api("publish", { channel: "chat:browser", data: number });
  await wait("she comes back", alice, "room subscribed", 2);
  await wait("and misses nothing", alice, "room publication", 4);
  found.away = (await events(alice, "connecting"))[1].code;
  found.recovered = (await events(alice, "room subscribed"))[1].recovered;
  found.room = (await events(alice, "room publication")).map((event) => event.data);
  found.news = (await events(alice, "publication")).map((event) => event.data);

  // Pings come, and are answered.
  await alice.waitForTimeout(4000);
  found.connecting = (await events(alice, "connecting")).length;

  await api("disconnect", { user: "alice" });
  await wait("she is kicked", alice, "disconnected");
  await alice.waitForTimeout(1500);
  found.kicked = (await events(alice, "disconnected"))[0].code;
  found.stays = await alice.evaluate(() => window.client.state);

  const stranger = await open("127.0.0.1", "nobody-knows-this");
  await wait("a stranger is refused", stranger, "disconnected");
  found.refused = (await events(stranger, "disconnected"))[0].code;

  const foreign = await open("localhost", "bob-token");
  await wait("a foreign page gets nowhere", foreign, "error", 2);
  found.foreign = (await events(foreign, "connected")).length;
  process.stdout.write(`${JSON.stringify(found)}\n`);
} catch (error) {
  process.stderr.write(`${error.stack}\n`);
  process.exitCode = 1;
} finally {
  await browser.close();
  pages.close();
}
