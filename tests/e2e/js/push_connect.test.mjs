// How push.js reaches the server: addresses, tokens, transports, and which one it takes.

import assert from "node:assert/strict";
import { test } from "node:test";

import { Browser, SERVER, SOURCE, connected, settle, told } from "./push_world.mjs";

const REPLY = { client: "client-1", ping: 25, pong: true, session: "secret", node: "node-1",
  subs: { a: {} } };
const ALL = ["websocket", "http_stream", "sse", "poll"];

async function begin(options, { attributes, src, without } = {}) {
  const browser = new Browser();
  const tab = browser.tab({ attributes, src, without });
  const push = tab.connect({ share: false, ...options });
  await settle();
  return { browser, tab, push };
}

test("the source neither evaluates text nor writes markup nor looks anything up by name", () => {
  const code = SOURCE.replace(/\/\*[\s\S]*?\*\//g, "").replace(/^\s*\/\/.*$|\s\/\/ .*$/gm, "");
  for (const word of [/\beval\b/, /new Function/, /innerHTML/, /outerHTML/, /insertAdjacent/,
    /document\.write/, /window\[/, /globalThis\[/, /self\[/, /cookie/i]) {
    assert.doesNotMatch(code, word);
  }
});

test("the first command, and the state when it is answered", async () => {
  const { browser, push } = await begin({ token: "the-token", data: { page: 1 } });
  assert.equal(browser.ws.url, "wss://push.example/connection/websocket");
  browser.ws.accept();
  const [{ id, connect }] = browser.ws.sent;
  assert.deepEqual([id, connect.token, connect.data, connect.name, connect.subs],
    [1, "the-token", { page: 1 }, "push.js", {}]);
  assert.equal(push.state, "connecting");
  browser.ws.reply("connect", REPLY);
  assert.deepEqual([push.state, push.transport, push.client],
    ["connected", "websocket", "client-1"]);
  assert.deepEqual(told(push), ["online ", "a subscribed", "connected"]);
  assert.equal(browser.requests.length, 0);
});

test("token, positions and address come from the script's element", async () => {
  const positions = '{"article:1":{"offset":3,"epoch":"e"}}';
  const attributes = { "data-push-token": "of-the-page", "data-push-positions": positions };
  const src = "https://example.org/push/push.js?v=1#x";
  const { browser } = await begin({}, { attributes, src });
  assert.equal(browser.ws.url, "wss://example.org/push/connection/websocket");
  browser.ws.accept();
  const { token, subs } = browser.ws.sent[0].connect;
  assert.equal(token, "of-the-page");
  assert.deepEqual(subs, { "article:1": { recover: true, offset: 3, epoch: "e" } });
});

for (const [url, address] of [
  ["http://push.example", "ws://push.example/connection/websocket"],
  ["/push", "wss://site.example/push/connection/websocket"],
  ["https://push.example/a//?x#y", "wss://push.example/a/connection/websocket"],
]) {
  test(`the address ${url}`, async () => {
    const { browser } = await begin({ url });
    assert.equal(browser.ws.url, address);
  });
}

test("what cannot be is said at once", () => {
  const tab = new Browser().tab({ attributes: { "data-push-positions": "{" } });
  assert.throws(() => tab.Push.connect(), /data-push-positions is not JSON/);
  assert.throws(() => tab.Push.connect({ positions: {}, transports: ["constructor"] }), TypeError);
});

// --- Tokens ------------------------------------------------------------------------------------

test("getToken is asked if there is no token, and again when its time is over", async () => {
  const tokens = ["first", "second", "third"];
  const { browser, push } = await begin({ getToken: async () => tokens.shift() });
  browser.ws.accept();
  assert.equal(browser.ws.sent[0].connect.token, "first");
  browser.ws.refuse("connect", 109, "token expired");
  assert.equal(push.state, "connecting");
  await browser.advance(1000);
  browser.ws.serve({ expires: true, ttl: 60 });
  assert.equal(browser.ws.sent[0].connect.token, "second");
  await browser.advance(24000);
  browser.ws.deliver({});
  await browser.advance(24000);
  browser.ws.deliver({});
  await browser.advance(13000);
  assert.deepEqual(browser.ws.command("refresh").refresh, { token: "third" });
});

test("a getToken that fails is asked again later", async () => {
  let failures = 2;
  const getToken = async () => {
    failures -= 1;
    if (failures >= 0) throw new Error("no network");
    return "at last";
  };
  const { browser, push } = await begin({ getToken });
  assert.deepEqual([push.state, push.log.at(-1).reason], ["connecting", "no network"]);
  await browser.advance(5000);
  assert.equal(browser.ws.accept().sent[0].connect.token, "at last");
});

test("a getToken that fails without a reason, or never comes to an end, is asked again later", async () => {
  const attempts = [() => Promise.reject(), () => Promise.reject("text"), () => { throw null; },
    () => new Promise(() => {}), () => "at last"];
  const { browser, push } = await begin({ getToken: () => attempts.shift()() });
  for (let attempt = 0; attempt < 3; attempt += 1) {
    assert.deepEqual(told(push), ["connecting"]);
    await browser.advance(push.retryIn);
  }
  assert.deepEqual([attempts.length, told(push)], [1, []]);
  await browser.advance(30000);
  assert.equal(push.log.at(-1).reason, "no answer in time");
  await browser.advance(push.retryIn);
  assert.equal(browser.ws.accept().sent[0].connect.token, "at last");
});

test("state invalidated: a new token is fetched", async () => {
  const tokens = ["first", "second"];
  const { browser } = await begin({ getToken: () => tokens.shift() });
  browser.ws.serve();
  browser.ws.drop(3014);
  await browser.advance(1000);
  assert.equal(browser.ws.accept().sent[0].connect.token, "second");
});

test("who was denied and comes back brings a new token, if it can", async () => {
  for (const share of [false, true]) {
    const tokens = ["second", "third"];
    const { browser, push } = await begin({ token: "first", identity: "me", share, getToken: () => tokens.shift() });
    const connects = async (token) => {
      await browser.advance(1000);
      assert.equal(browser.ws.accept().sent[0].connect.token, token);
    };
    await connects("first");
    browser.ws.drop(3500, "invalid token");
    await settle();
    assert.equal(push.state, "denied");
    push.reconnect();
    await connects("second");
    browser.ws.serve();
    browser.ws.drop();
    await connects("second");
    browser.ws.serve();
    push.close();
    push.reconnect();
    await connects("third");
  }
});

test("a connect that is refused for good", async () => {
  const { browser, push } = await begin({ token: "bad" });
  browser.ws.accept();
  browser.ws.refuse("connect", 103, "permission denied");
  assert.deepEqual(push.log.at(-1), { state: "denied", code: 103, reason: "permission denied" });
  assert.equal(browser.ws.closed, true);
  await browser.advance(100000);
  assert.equal(browser.sockets.length, 1);
});

test("one that is refused for now comes back", async () => {
  const { browser, push } = await begin({ token: "t" });
  browser.ws.accept();
  browser.ws.refuse("connect", 111, "try again in 7 s", true);
  assert.equal(push.log.at(-1).retryIn, 7000 + 250);
  await browser.advance(7250);
  assert.equal(browser.sockets.length, 2);
});

// --- Which transport -----------------------------------------------------------------------------

test("a WebSocket that opens and is silent is passed by, and the next is taken", async () => {
  const { browser, push } = await begin({});
  browser.ws.accept();
  await browser.advance(4999);
  assert.equal(browser.requests.length, 0);
  await browser.advance(1);
  assert.equal(browser.ws.closed, true);
  const stream = browser.request("connection/http_stream").begin();
  assert.deepEqual([stream.method, stream.credentials], ["POST", "include"]);
  assert.equal(stream.json.connect.name, "push.js");
  stream.line({ id: stream.json.id, connect: REPLY });
  await settle();
  assert.deepEqual([push.state, push.transport], ["connected", "http_stream"]);
});

test("a slow CMS is no reason to go on to the next", async () => {
  const { browser, push } = await begin({});
  browser.ws.accept().deliver({}); // The sign: it lets something through.
  assert.equal(browser.ws.sent[0].connect.early, true);
  assert.deepEqual(browser.ws.sent.length, 1);
  await browser.advance(29000);
  assert.equal(browser.requests.length, 0);
  browser.ws.reply("connect", REPLY);
  assert.equal(push.transport, "websocket");
});

test("all of them fail, one after the other, and then it waits", async () => {
  const { browser, push } = await begin({});
  browser.ws.drop();
  await settle();
  browser.request("connection/http_stream").fail(403);
  await settle();
  const [source] = browser.sources;
  assert.match(source.url, /^https:\/\/push\.example\/connection\/sse\?cf_connect=%7B%22id%22/);
  assert.equal(source.withCredentials, true);
  source.onerror({});
  assert.equal(source.closed, true);
  browser.request("connection/poll").fail();
  await settle();
  assert.deepEqual(told(push), ["connecting"]);
  assert.equal(push.state, "connecting");
  assert.equal(browser.sockets.length, 1);
  await browser.advance(500);
  assert.equal(browser.sockets.length, 2);
});

test("the server itself has spoken: no other transport is tried", async () => {
  for (const code of [3001, 3013, 4000]) {
    const { browser, push } = await begin({});
    browser.ws.accept().drop(code, "later");
    await settle();
    assert.equal(push.state, "connecting");
    assert.equal(browser.requests.length, 0);
  }
});

test("a browser without one of them goes on to the next", async () => {
  const { browser, push } = await begin({}, { without: ["WebSocket"] });
  await settle();
  const stream = browser.request("connection/http_stream").begin();
  stream.line({ id: stream.json.id, connect: REPLY });
  await settle();
  assert.equal(push.transport, "http_stream");
});

test("the page of a hotel is not the protocol", async () => {
  const { browser } = await begin({ transports: ["http_stream", "sse"] });
  browser.request("connection/http_stream").begin().write("<!doctype html>\n<p>Pay first</p>\n");
  await settle();
  assert.equal(browser.sources.length, 1);
});

test("Retry-After of a full server is waited for", async () => {
  const { browser, push } = await begin({ transports: ["http_stream", "poll"] });
  browser.request("connection/http_stream").fail(503, { "Retry-After": "5" });
  await settle();
  assert.equal(browser.requests.length, 1);
  assert.equal(push.log.at(-1).retryIn, 5250);
});

test("what worked is used first for a day", async () => {
  const { browser, push } = await begin({});
  browser.ws.drop();
  await settle();
  const stream = browser.request("connection/http_stream").begin();
  stream.line({ id: stream.json.id, connect: REPLY });
  await settle();
  push.close();
  const next = browser.tab();
  next.connect({ share: false });
  await settle();
  assert.equal(browser.sockets.length, 1);
  assert.equal(browser.requests.length, 2);
  const second = browser.request("connection/http_stream").begin();
  second.line({ id: second.json.id, connect: REPLY });
  await settle();
  next.push.close();
  // It is a day from when it was found out, however often it is used.
  await browser.advance(86400000 - 1000);
  const last = browser.tab();
  last.connect({ share: false });
  await settle();
  const third = browser.request("connection/http_stream").begin();
  third.line({ id: third.json.id, connect: REPLY });
  await settle();
  assert.deepEqual([last.push.transport, browser.sockets.length], ["http_stream", 1]);
  last.push.close();
  await browser.advance(1000);
  browser.tab().connect({ share: false });
  await settle();
  assert.equal(browser.sockets.length, 2);
});

test("what a page with other transports found is nothing to this one", async () => {
  const { browser } = await begin({ transports: ["poll"] });
  browser.request("connection/poll").answer({ id: 1, connect: REPLY });
  await settle();
  browser.tab().connect({ share: false });
  await settle();
  assert.equal(browser.sockets.length, 1);
});

test("what is remembered and fails now is followed by the others", async () => {
  const browser = new Browser();
  const until = browser.now + 1000;
  browser.storage.set(`twisted_push ${SERVER} ${ALL}`, JSON.stringify({ name: "sse", until }));
  browser.tab().connect({ share: false });
  await settle();
  browser.sources[0].onerror({});
  assert.equal(browser.sockets.length, 1);
});

for (const nonsense of ["{", "null", '{"name":"constructor","until":9e99}', '{"name":5}']) {
  test(`a memory of ${nonsense} is none`, async () => {
    const browser = new Browser();
    browser.storage.set(`twisted_push ${SERVER} ${ALL}`, nonsense);
    browser.tab().connect({ share: false });
    await settle();
    assert.equal(browser.sockets.length, 1);
  });
}

test("storage that is forbidden is no fault", async () => {
  const { browser, push } = await begin({}, { without: ["localStorage"] });
  browser.ws.serve();
  assert.equal(push.state, "connected");
});

// --- Fallbacks -------------------------------------------------------------------------------------

test("an HTTP stream: lines in any pieces, requests in order", async () => {
  const { browser, push } = await begin({ transports: ["http_stream"] });
  const stream = browser.request("connection/http_stream").begin();
  stream.line({ id: 1, connect: REPLY });
  await settle();
  const text = `${JSON.stringify({ push: { channel: "a", pub: { data: "grüße 🌍" } } })}\n`;
  const bytes = new TextEncoder().encode(text);
  for (const byte of bytes) stream.stream.enqueue(Uint8Array.of(byte));
  await settle();
  assert.deepEqual(push.heard, ["grüße 🌍"]);
  for (const data of [1, 2]) push.publish("a", data).catch(() => {});
  await settle();
  const first = browser.request("emulation");
  assert.deepEqual([first.json.session, first.json.node], ["secret", "node-1"]);
  assert.equal(JSON.parse(first.json.data).publish.data, 1);
  first.answer();
  await settle();
  assert.equal(JSON.parse(browser.request("emulation").json.data).publish.data, 2);
  stream.line({});
  browser.request("emulation").answer();
  await settle();
  assert.equal(browser.request("emulation").json.data, "{}");
  stream.line({ push: { disconnect: { code: 3503, reason: "kicked" } } });
  await settle();
  assert.deepEqual(push.log.at(-1), { state: "denied", code: 3503, reason: "kicked" });
});

test("a stream that just ends was cut", async () => {
  const { browser, push } = await begin({ transports: ["http_stream"] });
  const stream = browser.request("connection/http_stream").begin();
  stream.line({ id: 1, connect: REPLY });
  await settle();
  stream.end();
  await settle();
  assert.equal(push.state, "recovering");
});

test("an event stream", async () => {
  const { browser, push } = await begin({ transports: ["sse"] });
  const [source] = browser.sources;
  source.deliver({ id: 1, connect: REPLY }, { push: { channel: "a", pub: { data: 1 } } });
  assert.deepEqual([push.transport, push.heard], ["sse", [1]]);
  source.deliver({});
  await settle();
  assert.equal(browser.request("emulation").json.data, "{}");
  source.onerror({});
  assert.deepEqual([push.state, source.closed], ["recovering", true]);
});

test("polls, with a cursor, and again where an answer was lost", async () => {
  const { browser, push } = await begin({ transports: ["poll"] });
  browser.request("connection/poll").answer({ id: 1, connect: REPLY });
  await settle();
  assert.equal(push.transport, "poll");
  const poll = browser.request("connection/poll");
  assert.deepEqual(poll.json, { session: "secret", node: "node-1", cursor: 1 });
  poll.answer({}, { push: { channel: "a", pub: { data: 1 } } });
  await settle();
  assert.deepEqual(push.heard, [1]);
  assert.equal(browser.request("emulation"), undefined); // A poll is a sign of life.
  const second = browser.request("connection/poll");
  assert.equal(second.json.cursor, 2);
  second.fail();
  await browser.advance(500);
  const again = browser.request("connection/poll");
  assert.notEqual(again, second);
  assert.equal(again.json.cursor, 2);
  again.fail(404);
  await settle();
  assert.equal(push.state, "recovering");
});

test("a session that the server does not know is over", async () => {
  const { browser, push } = await begin({ transports: ["sse"] });
  browser.sources[0].deliver({ id: 1, connect: REPLY });
  push.publish("a", 1).catch(() => {});
  await settle();
  browser.request("emulation").fail(404);
  await settle();
  assert.equal(push.state, "recovering");
});

test("after the end nothing of the old connection is heard", async () => {
  for (const name of ALL) {
    const { browser, push } = await begin({ transports: [name] });
    push.close();
    await settle();
    for (const socket of browser.sockets) socket.serve();
    for (const source of browser.sources) source.deliver({ id: 1, connect: REPLY });
    for (const request of browser.requests) assert.equal(request.aborted, true);
    await settle();
    assert.equal(push.state, "closed");
    assert.equal([...browser.timers.values()].length, 0, name);
  }
});

test("a connection without Node's or a browser's page", async () => {
  const { push, ws } = await connected();
  ws.publish("a", "x");
  assert.deepEqual(push.heard, ["x"]);
});
