// How push.js comes back: when, with what, and what it tells of it.

import assert from "node:assert/strict";
import { test } from "node:test";

import { Browser, connected, settle, told } from "./push_world.mjs";

const GRANTED = { subs: { news: { recoverable: true, epoch: "e", offset: 5 }, chat: {} } };

async function comeBack(browser, push, result) {
  await browser.advance(push.retryIn);
  browser.ws.serve(result);
  await settle();
}

// --- When ------------------------------------------------------------------------------------------

test("the delays grow up to 20 seconds, and are chosen at random below that", async () => {
  const { browser, push, ws } = await connected();
  ws.drop();
  const most = [];
  for (let attempt = 0; attempt < 9; attempt += 1) {
    most.push(push.retryIn / browser.randomness);
    await browser.advance(push.retryIn);
    await browser.fail();
  }
  assert.deepEqual(most, [500, 1000, 2000, 4000, 8000, 16000, 20000, 20000, 20000]);
  for (const [randomness, delay] of [[0, 0], [0.999, 19980]]) {
    browser.randomness = randomness;
    await browser.advance(push.retryIn);
    await browser.fail();
    assert.equal(push.retryIn, delay);
  }
});

test("after a loss what worked is tried alone, until it failed three times", async () => {
  const { browser, push, ws } = await connected();
  ws.drop();
  for (let attempt = 0; attempt < 3; attempt += 1) {
    await browser.advance(push.retryIn);
    await browser.fail();
  }
  assert.deepEqual([browser.sockets.length, browser.requests.length], [4, 0]);
  await browser.advance(push.retryIn);
  await browser.fail();
  assert.ok(browser.request("connection/http_stream"));
});

test("a connection that held makes the delays start over", async () => {
  const { browser, push, ws } = await connected();
  ws.drop();
  for (const [held, delay] of [[9000, 500], [9000, 1000], [11000, 250]]) {
    await browser.advance(push.retryIn);
    browser.ws.serve();
    browser.ws.deliver({}, {});
    await browser.advance(held);
    browser.ws.drop();
    assert.equal(push.retryIn, delay);
  }
});

for (const code of [1000, 1001, 1006, 1009, 3000, 3001, 3004, 3005, 3008, 3010, 3011, 3012, 3013,
  3499, 4000, 4499]) {
  test(`it comes back after ${code}`, async () => {
    const { browser, push, ws } = await connected({ token: "t" });
    ws.deliver({});
    ws.drop(code, "why");
    assert.equal(push.state, "recovering");
    const { code: told_, reason } = push.log.at(-1);
    assert.deepEqual([told_, reason], [code, "why"]);
    await browser.advance(push.retryIn);
    assert.equal(browser.sockets.length, 2);
  });
}

for (const code of [3500, 3501, 3503, 3507, 3999, 4500, 4999]) {
  test(`it stays away after ${code}, until the page wants otherwise`, async () => {
    const { browser, push, ws } = await connected({ token: "t" });
    ws.drop(code, "why");
    assert.deepEqual(push.log.at(-1), { state: "denied", code, reason: "why" });
    await browser.advance(200000);
    assert.equal(browser.sockets.length, 1);
    assert.equal(browser.timers.size, 0);
    await assert.rejects(push.rpc("x"), /it is denied/);
    push.reconnect();
    await settle();
    browser.ws.serve();
    assert.equal(push.state, "connected");
  });
}

test("it waits for as long as the server says, whoever looks", async () => {
  const { browser, tab, push, ws } = await connected();
  ws.drop(3004, "try again in 30 s");
  assert.equal(push.log.at(-1).retryIn, 30250);
  tab.show("visible");
  tab.dispatch("online");
  await browser.advance(29999);
  tab.show("visible");
  await settle();
  assert.equal(browser.sockets.length, 1);
  await browser.advance(1);
  tab.show("visible");
  await settle();
  assert.equal(browser.sockets.length, 2);
});

test("when a server stops not all come back within half a second", async () => {
  const { push, ws } = await connected();
  ws.drop(3001, "shutdown");
  assert.equal(push.log.at(-1).retryIn, 1000);
});

test("offline: it lets go, and comes back with the network", async () => {
  const { browser, tab, push, ws } = await connected();
  tab.online = false;
  tab.dispatch("offline");
  assert.deepEqual([push.state, push.log.at(-1).reason, ws.closed], ["recovering", "offline", true]);
  await browser.advance(19000);
  assert.equal(browser.sockets.length, 1);
  tab.online = true;
  tab.dispatch("online");
  await settle();
  browser.ws.serve();
  assert.equal(push.state, "connected");
});

test("a browser that wrongly says that it is offline", async () => {
  const { browser, tab, push, ws } = await connected();
  tab.online = false;
  ws.drop();
  assert.equal(push.retryIn, 20250);
  await browser.advance(push.retryIn);
  browser.ws.serve();
  assert.equal(push.state, "connected");
});

// --- Silence ----------------------------------------------------------------------------------------

test("a ping is answered; one that does not come is waited for ten seconds", async () => {
  const { browser, push, ws } = await connected();
  for (let ping = 0; ping < 3; ping += 1) {
    await browser.advance(25000);
    ws.deliver({});
    assert.deepEqual(ws.sent.at(-1), {});
  }
  await browser.advance(34999);
  assert.equal(push.state, "connected");
  await browser.advance(1);
  assert.deepEqual([push.state, push.log.at(-1).reason], ["recovering", "silent"]);
  // Pings came through before, so it was not the transport.
  await browser.advance(500);
  assert.equal(browser.sockets.length, 2);
});

test("a transport by which no ping ever came is not used again", async () => {
  const { browser, push } = await connected();
  await browser.advance(35000);
  assert.equal(push.state, "recovering");
  await browser.advance(500);
  assert.equal(browser.sockets.length, 1);
  const stream = browser.request("connection/http_stream").begin();
  stream.line({ id: stream.json.id, connect: { client: "c", ping: 25, session: "s", node: "n" } });
  await settle();
  assert.equal(push.transport, "http_stream");
});

test("a transport that brings pings too late is not used again when it does so twice", async () => {
  const { browser, push } = await connected();
  for (let turn = 0; turn < 2; turn += 1) {
    assert.equal(browser.requests.length, 0);
    browser.ws.deliver({}, {}, {}); // All at once: something held them back.
    browser.ws.drop(3012, "no pong");
    await browser.advance(push.retryIn);
    browser.open.at(-1)?.serve();
  }
  assert.ok(browser.request("connection/http_stream"));
});

/** Come back by a WebSocket, and say whether it was another transport that was tried. */
async function again(browser, push) {
  const before = browser.requests.length;
  await browser.advance(push.retryIn);
  browser.open.at(-1)?.serve();
  await settle();
  return browser.requests.length > before;
}

for (const pings of [0, 1]) {
  test(`one that is cut twice before pings went both ways is not used again: ${pings} pings`, async () => {
    // The server closed it, as it heard nothing; its word did not come through.
    const { browser, push } = await connected();
    for (const moved of [false, true]) {
      for (let ping = 0; ping < pings; ping += 1) browser.ws.deliver({});
      await browser.advance(10000);
      browser.ws.drop(1006);
      assert.equal(await again(browser, push), moved);
    }
  });
}

test("so is an HTTP stream", async () => {
  const { browser, push } = await connected({ transports: ["websocket", "http_stream", "poll"] });
  await browser.advance(35000); // No ping comes by the WebSocket.
  for (let turn = 0; turn < 2; turn += 1) {
    assert.equal(browser.request("connection/poll"), undefined);
    await browser.advance(push.retryIn);
    const stream = browser.request("connection/http_stream").begin();
    stream.line({ id: stream.json.id, connect: { client: "c", ping: 25, session: "s", node: "n" } });
    await settle();
    assert.equal(push.transport, "http_stream");
    stream.end();
    await settle();
  }
  await browser.advance(push.retryIn);
  assert.ok(browser.request("connection/poll"));
});

test("what is cut for another reason is not held against the transport", async () => {
  const ends = {
    "pings went both ways": (browser) => browser.ws.deliver({}, {}),
    "it was closed": (browser) => browser.ws.drop(1001),
    "the server was away": async (browser, push) => {
      browser.ws.drop();
      await browser.advance(push.retryIn);
    },
    "it held, once": async (browser) => {
      for (let ping = 0; ping < 4; ping += 1) {
        browser.ws.deliver({});
        await browser.advance(25000);
      }
    },
  };
  for (const [name, end] of Object.entries(ends)) {
    const { browser, push } = await connected();
    for (let turn = 0; turn < 5; turn += 1) {
      await browser.advance(11000);
      if (turn % 2 || name !== "it held, once") await end(browser, push);
      browser.open.at(-1)?.drop();
      assert.equal(await again(browser, push), false, name);
    }
  }
});

test("one that did well meanwhile is used again", async () => {
  const { browser, push } = await connected();
  for (let turn = 0; turn < 3; turn += 1) {
    for (let ping = 0; ping < 4; ping += 1) {
      browser.ws.deliver({});
      await browser.advance(25000);
    }
    browser.ws.drop(3012, "no pong");
    await browser.advance(push.retryIn);
    browser.ws.serve();
  }
  assert.deepEqual([browser.sockets.length, browser.requests.length], [4, 0]);
});

test("a ping that came too late because the computer slept is not held against the transport", async () => {
  const { browser, tab, push } = await connected();
  tab.frozen = [];
  await browser.advance(3600000);
  tab.frozen = undefined;
  await browser.advance(1000);
  assert.equal(push.log.some(({ reason }) => reason === "silent"), true);
  assert.deepEqual([browser.sockets.length, browser.requests.length], [2, 0]);
});

test("after a sleep the connection is probed, and given up if it is dead", async () => {
  const { browser, tab, push, ws } = await connected();
  await browser.advance(10000);
  tab.show("visible");
  assert.deepEqual(ws.command("ping").ping, {});
  ws.reply("ping", {});
  await browser.advance(6000);
  assert.equal(push.state, "connected");
  tab.show("visible");
  await browser.advance(5000);
  assert.equal(push.state, "recovering");
  // Who looks at it need not wait for the delay.
  tab.show("visible");
  await settle();
  assert.equal(browser.sockets.length, 2);
});

// --- With what --------------------------------------------------------------------------------------

test("what was missed of a granted channel comes, and once", async () => {
  const { browser, push, ws } = await connected({}, GRANTED);
  ws.publish("news", "six", 6);
  ws.publish("chat", "without a position");
  ws.drop();
  assert.deepEqual(told(push), ["recovering"]);
  await browser.advance(500);
  browser.ws.accept();
  assert.deepEqual(browser.ws.sent[0].connect.subs,
    { news: { recover: true, epoch: "e", offset: 6 } });
  const publications = [{ data: "seven", offset: 7 }, { data: "eight", offset: 8 }];
  browser.ws.reply("connect", { client: "c", subs: {
    news: { recoverable: true, epoch: "e", offset: 8, was_recovering: true, recovered: true,
      publications },
    chat: {},
  } });
  browser.ws.publish("news", "eight", 8);
  browser.ws.publish("news", "nine", 9);
  assert.deepEqual(push.heard, ["six", "without a position", "seven", "eight", "nine"]);
  assert.deepEqual(push.log.at(-1).recovered, true);
  assert.deepEqual(told(push),
    ["online ", "news recovered", "chat subscribed", "connected"]);
});

test("what cannot be recovered is said to be lost", async () => {
  const { browser, push, ws } = await connected({}, GRANTED);
  ws.drop();
  const subs = { news: { recoverable: true, epoch: "e2", offset: 3, was_recovering: true } };
  await comeBack(browser, push, { subs });
  assert.equal(push.log.at(-1).recovered, false);
  assert.deepEqual(told(push), ["recovering", "online ", "news lost", "chat unsubscribed",
    "connected"]);
  // From then on it goes on from there.
  browser.ws.publish("news", "four", 4);
  browser.ws.drop(1001);
  await browser.advance(push.retryIn);
  assert.deepEqual(browser.ws.accept().sent[0].connect.subs.news,
    { recover: true, epoch: "e2", offset: 4 });
});

test("a page that is too old is told so, and once", async () => {
  const positions = { news: { offset: 2, epoch: "old" } };
  const { browser, push } = await connected({ positions });
  browser.ws.drop();
  await comeBack(browser, push, { subs: { news: { epoch: "e", offset: 9, was_recovering: true } } });
  assert.ok(told(push).includes("news lost"));
  browser.ws.drop(1001);
  const recovered = { epoch: "e", offset: 9, was_recovering: true, recovered: true };
  await comeBack(browser, push, { subs: { news: recovered } });
  assert.ok(told(push).includes("news recovered"));
});

test("the latest of a channel in mode cache", async () => {
  const { push, ws } = await connected();
  push.subscribe("score", { since: { offset: 0, epoch: "" } });
  assert.deepEqual(ws.command("subscribe").subscribe,
    { channel: "score", recover: true, offset: 0, epoch: "" });
  ws.reply("subscribe", { epoch: "e", offset: 41, was_recovering: true, recovered: true,
    publications: [{ data: "3:2", offset: 41 }] });
  assert.deepEqual(push.heard, ["3:2"]);
  ws.publish("score", "4:2", 42);
  assert.deepEqual(push.heard, ["3:2", "4:2"]);
});

test("channels that were asked for are asked for again, from where they were", async () => {
  const { browser, push, ws } = await connected();
  const asked = push.subscribe("room", { token: "for the room", data: { from: "page" } });
  ws.reply("subscribe", { recoverable: true, epoch: "e", offset: 1, data: { welcome: 1 } });
  assert.deepEqual(await asked, { channel: "room", event: "subscribed", data: { welcome: 1 } });
  ws.publish("room", "two", 2);
  ws.drop();
  await comeBack(browser, push);
  assert.deepEqual(browser.ws.sent[0].connect.subs, {});
  assert.equal(push.state, "recovering"); // Not before all channels are there.
  assert.deepEqual(browser.ws.command("subscribe").subscribe, { channel: "room",
    token: "for the room", data: { from: "page" }, recover: true, epoch: "e", offset: 2 });
  browser.ws.reply("subscribe", { epoch: "e", offset: 3, was_recovering: true, recovered: true,
    publications: [{ data: "three", offset: 3 }] });
  assert.deepEqual(push.heard, ["two", "three"]);
  assert.equal(push.log.at(-1).recovered, true);
});

test("a gap in what comes is not passed over", async () => {
  const { browser, push, ws } = await connected({}, GRANTED);
  ws.publish("news", "six", 6);
  ws.publish("news", "eight", 8);
  await settle();
  assert.deepEqual(push.heard, ["six"]);
  assert.equal(ws.closed, true);
  assert.deepEqual([push.log.at(-1).code, push.log.at(-1).reason], [3010, "insufficient state"]);
  await browser.advance(push.retryIn);
  browser.ws.accept();
  assert.equal(browser.ws.sent[0].connect.subs.news.offset, 6);
});

test("what comes once more is not heard twice", async () => {
  const { push, ws } = await connected({}, GRANTED);
  for (const offset of [6, 7, 6, 8]) ws.publish("news", offset, offset);
  assert.deepEqual([push.heard, ws.closed], [[6, 7, 8], false]);
});

// --- The page's life --------------------------------------------------------------------------------

test("a page that goes into the browser's cache lets go, and comes back", async () => {
  const { browser, tab, push, ws } = await connected({}, GRANTED);
  ws.publish("news", "six", 6);
  tab.dispatch("pagehide", { persisted: true });
  assert.equal(ws.closed, true);
  await browser.advance(100000);
  assert.equal(browser.sockets.length, 1);
  tab.dispatch("pageshow", { persisted: true });
  assert.equal(push.state, "recovering");
  await settle();
  browser.ws.accept();
  assert.equal(browser.ws.sent[0].connect.subs.news.offset, 6);
  browser.ws.serve({ subs: { news: { epoch: "e", offset: 6, was_recovering: true, recovered: true } } });
  assert.equal(push.state, "connected");
});

test("a tab in the background gives up its connection only if it is to", async () => {
  const patient = await connected();
  patient.tab.show("hidden");
  await patient.browser.advance(30000);
  assert.equal(patient.push.state, "connected");

  const { browser, tab, push, ws } = await connected({ pauseHidden: 20 }, GRANTED);
  tab.show("hidden");
  await browser.advance(10000);
  tab.show("visible");
  ws.reply("ping", {});
  tab.show("hidden");
  await browser.advance(19000);
  assert.equal(ws.closed, false);
  await browser.advance(1000);
  assert.deepEqual([ws.closed, push.state, push.log.at(-1).reason], [true, "recovering", "hidden"]);
  await browser.advance(100000);
  tab.show("visible");
  await settle();
  assert.deepEqual(browser.ws.accept().sent[0].connect.subs,
    { news: { recover: true, epoch: "e", offset: 5 } });
});

test("a tab that was opened in the background gives up its connection, too", async () => {
  const browser = new Browser();
  browser.tab({ state: "hidden" }).connect({ share: false, pauseHidden: 20 });
  await settle();
  browser.ws.serve();
  await browser.advance(20000);
  assert.equal(browser.ws.closed, true);
});

test("close is for good, and leaves nothing behind", async () => {
  const { browser, tab, push, ws } = await connected();
  push.close();
  push.close();
  assert.deepEqual([push.state, ws.closed], ["closed", true]);
  assert.deepEqual(told(push), ["closed"]);
  assert.deepEqual([browser.timers.size, tab.listeners.length], [0, 0]);
  tab.dispatch("online");
  tab.show("visible");
  await browser.advance(1000);
  assert.equal(browser.sockets.length, 1);
});
