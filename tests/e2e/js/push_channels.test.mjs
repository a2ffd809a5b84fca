// Callbacks, channels, presence and calls of push.js.

import assert from "node:assert/strict";
import { test } from "node:test";

import { connected, settle, told } from "./push_world.mjs";

// --- Callbacks -------------------------------------------------------------------------------------

test("each channel has its callbacks, any number of them", async () => {
  const { push, ws } = await connected();
  const heard = [];
  const off = push.on("a", (data, message) => heard.push(["first", data, message.channel]));
  const second = (data) => heard.push(["second", data]);
  push.on("a", second);
  push.on("a", second); // Once more is not twice.
  push.on("b", (data) => heard.push(["b", data]));
  ws.publish("a", 1);
  off();
  ws.publish("a", 2);
  push.off("a", second);
  ws.publish("a", 3);
  push.on("a", second);
  push.off("a");
  ws.publish("a", 4);
  ws.publish("b", 5);
  assert.deepEqual(heard, [["first", 1, "a"], ["second", 1], ["second", 2], ["b", 5]]);
});

test("all that a publication has", async () => {
  const { push, ws } = await connected();
  const messages = [];
  push.on("a", (data, message) => messages.push(message));
  const pub = { data: { x: null }, offset: 3, time: 1795486888702, tags: { kind: "k" },
    info: { user: "7", client: "c" } };
  ws.deliver({ push: { channel: "a", pub } });
  assert.deepEqual(messages, [{ channel: "a", ...pub }]);
});

for (const [without, by] of [[[], "reported"], [["reportError"], "errors"]]) {
  test(`a callback that fails stops no other, and the page hears of it: ${by}`, async () => {
    const { browser, push, ws } = await connected({}, undefined, { without });
    const heard = [];
    push.on("a", () => { throw new Error("of the page"); });
    push.on("a", (data) => heard.push(data));
    push.onMessage(() => { throw new Error("of another"); });
    ws.publish("a", 1);
    ws.publish("a", 2);
    assert.deepEqual([heard, push.heard], [[1, 2], [1, 2]]);
    await browser.advance(0);
    assert.deepEqual(browser[by].map((error) => error.message),
      ["of the page", "of another", "of the page", "of another"]);
    assert.equal(browser.errors.length + browser.reported.length, 4);
  });
}

test("a callback may take itself and others away", async () => {
  const { push, ws } = await connected();
  const heard = [];
  const off = push.on("a", () => { heard.push(1); off(); push.off("a"); });
  push.on("a", () => heard.push(2));
  ws.publish("a", 1);
  ws.publish("a", 2);
  assert.deepEqual(heard, [1, 2]); // Who was there at the beginning is still told.
});

for (const name of ["__proto__", "constructor", "toString", "hasOwnProperty", "then", ""]) {
  test(`the name ${JSON.stringify(name)} is one like any other`, async () => {
    const subs = JSON.parse(`{${JSON.stringify(name)}: {"epoch": "e", "offset": 1}}`);
    const { browser, push, ws } = await connected({}, { subs });
    assert.deepEqual(told(push), []);
    ws.publish(name, "nobody listens");
    const heard = [];
    push.on(name, (data) => heard.push(data));
    ws.publish(name, "somebody does", 2);
    assert.deepEqual(heard, ["somebody does"]);
    ws.deliver(`{"push":{"channel":"x","pub":{"data":{"__proto__":{"polluted":1}}}}}`);
    assert.equal({}.polluted, undefined);
    ws.deliver(`{"push":{"message":{"data":{"presenceNotification":{"uid":"__proto__","event":"online"}}}}}`);
    assert.deepEqual(push.online, ["__proto__"]);
    ws.drop();
    await browser.advance(push.retryIn);
    browser.ws.accept();
    const sent = browser.ws.sent[0].connect.subs;
    assert.ok(Object.hasOwn(sent, name));
    assert.equal(sent[name].offset, 2);
  });
}

for (const message of [null, 5, "x", [], {}, { push: {} }, { push: null }, { id: 99, rpc: {} },
  { push: { channel: "a", other: {} } }, { push: { message: { data: null } } },
  { push: { message: { data: { presenceState: {} } } } }, { push: { message: {} } }]) {
  test(`what no server should send does no harm: ${JSON.stringify(message)}`, async () => {
    const { browser, push, ws } = await connected();
    ws.deliver(JSON.stringify(message));
    await settle();
    if (push.state !== "connected") {
      await browser.advance(push.retryIn);
      browser.ws.serve();
    }
    browser.ws.publish("a", "still here");
    assert.deepEqual(push.heard, ["still here"]);
  });
}

// --- Channels --------------------------------------------------------------------------------------

test("a channel before the connection is there", async () => {
  const { browser, push, ws } = await connected();
  ws.drop();
  const asked = push.subscribe("room");
  await browser.advance(push.retryIn);
  browser.ws.serve();
  assert.equal(push.state, "recovering");
  browser.ws.reply("subscribe", {});
  assert.equal((await asked).event, "subscribed");
  assert.equal(push.state, "connected");
});

test("a channel that is refused", async () => {
  const { browser, push, ws } = await connected();
  const asked = push.subscribe("secret", { token: "forged" });
  ws.refuse("subscribe", 103, "permission denied");
  await assert.rejects(asked, { code: 103, message: "permission denied" });
  assert.deepEqual(push.log,
    [{ channel: "secret", event: "unsubscribed", code: 103, reason: "permission denied" }]);
  // It is not asked for again.
  ws.drop();
  await browser.advance(push.retryIn);
  browser.ws.serve();
  assert.equal(browser.ws.sent.length, 1);
  assert.equal(push.state, "connected");
});

test("one that is refused for now is asked for again", async () => {
  const { browser, push, ws } = await connected();
  const asked = push.subscribe("room");
  ws.refuse("subscribe", 100, "internal server error", true);
  await browser.advance(20500);
  ws.reply("subscribe", {});
  assert.equal((await asked).event, "subscribed");
});

test("one that is asked for twice, and one that is never answered", async () => {
  const { push, ws } = await connected();
  const asked = [push.subscribe("room"), push.subscribe("room", { data: 1 })];
  ws.reply("subscribe", {});
  assert.deepEqual((await Promise.all(asked)).map(({ event }) => event), ["subscribed", "subscribed"]);
  const never = assert.rejects(push.subscribe("other"), /it is closed/);
  push.close();
  await never;
});

test("one that the CMS gave meanwhile", async () => {
  const { push, ws } = await connected({}, { subs: { room: {} } });
  assert.equal((await push.subscribe("room")).event, "subscribed");
  assert.equal(ws.command("subscribe"), undefined);
});

test("leaving", async () => {
  const { browser, push, ws } = await connected();
  push.subscribe("room");
  ws.reply("subscribe", { epoch: "e", offset: 1 });
  push.unsubscribe("room");
  assert.deepEqual(ws.command("unsubscribe").unsubscribe, { channel: "room" });
  push.unsubscribe("never");
  ws.drop();
  await browser.advance(push.retryIn);
  browser.ws.serve();
  assert.equal(browser.ws.sent.length, 1);
});

test("leaving before the answer is there", async () => {
  const { push, ws } = await connected();
  const asked = assert.rejects(push.subscribe("room"), { code: 0, message: "it is unsubscribed" });
  push.unsubscribe("room");
  await asked;
  ws.reply("subscribe", { epoch: "e", offset: 1 });
  assert.deepEqual(ws.command("unsubscribe").unsubscribe, { channel: "room" });
  ws.publish("room", "too late", 2);
  assert.ok(!told(push).includes("room subscribed"));
});

test("leaving before its token is there", async () => {
  const { push, ws } = await connected();
  let give;
  const asked = push.subscribe("room", { token: () => new Promise((resolve) => { give = resolve; }) });
  push.unsubscribe("room");
  await assert.rejects(asked, /it is unsubscribed/);
  give("too late");
  await settle();
  assert.equal(ws.command("subscribe"), undefined);
});

test("asking for a channel when all is over", async () => {
  const { push, ws } = await connected();
  ws.drop(3503, "force disconnect");
  await assert.rejects(push.subscribe("room"), { code: 3503, message: "it is denied" });
  push.close();
  await assert.rejects(push.subscribe("room"), /it is closed/);
});

test("a channel that the CMS gave is not left, and nothing of it is missed", async () => {
  const { browser, push, ws } = await connected({}, { subs: { news: { epoch: "e", offset: 5 } } });
  push.subscribe("news");
  push.unsubscribe("news");
  ws.publish("news", "six", 6);
  ws.drop();
  await browser.advance(push.retryIn);
  browser.ws.serve({ subs: { news: { epoch: "e", offset: 7, was_recovering: true, recovered: true,
    publications: [{ data: "seven", offset: 7 }] } } });
  assert.deepEqual(push.heard, ["six", "seven"]);
  // When the CMS takes it away, where it stood is of no use any more.
  browser.ws.deliver({ push: { channel: "news", unsubscribe: { code: 2000, reason: "gone" } } });
  browser.ws.deliver({ push: { channel: "news", subscribe: { epoch: "e", offset: 9 } } });
  assert.deepEqual(told(push).slice(-2), ["news unsubscribed", "news subscribed"]);
});

test("what the CMS adds and takes", async () => {
  const { browser, push, ws } = await connected();
  ws.deliver({ push: { channel: "new", subscribe: { epoch: "e", offset: 4, data: "d" } } });
  ws.publish("new", "five", 5);
  ws.deliver({ push: { channel: "new", unsubscribe: { code: 2000, reason: "gone" } } });
  assert.deepEqual(told(push), ["new subscribed", "new unsubscribed"]);
  ws.drop();
  await browser.advance(push.retryIn);
  assert.deepEqual(browser.ws.accept().sent[0].connect.subs, {});
});

test("a channel is asked for again where the code says so", async () => {
  const { push, ws } = await connected();
  push.subscribe("room");
  ws.reply("subscribe", { epoch: "e", offset: 1 });
  ws.deliver({ push: { channel: "room", unsubscribe: { code: 2500, reason: "insufficient state" } } });
  assert.deepEqual(ws.command("subscribe").subscribe,
    { channel: "room", recover: true, epoch: "e", offset: 1 });
});

test("a token whose time is over is renewed by the page", async () => {
  const { browser, push, ws } = await connected();
  let count = 0;
  const asked = push.subscribe("room", { token: async (channel) => `${channel} ${count += 1}` });
  await settle();
  assert.equal(ws.command("subscribe").subscribe.token, "room 1");
  ws.refuse("subscribe", 109, "token expired");
  await settle();
  assert.equal(ws.command("subscribe").subscribe.token, "room 2");
  ws.reply("subscribe", { expires: true, ttl: 20 });
  await asked;
  await browser.advance(20000);
  assert.deepEqual(ws.command("sub_refresh").sub_refresh, { channel: "room", token: "room 3" });
  assert.deepEqual(told(push), ["room subscribed"]);
});

for (const nothing of ["", null, undefined]) {
  test(`a page that has no new token: ${JSON.stringify(nothing)}`, async () => {
    const { browser, push, ws } = await connected();
    const tokens = ["good", nothing, "too late"];
    const asked = push.subscribe("room", { token: async () => tokens.shift() });
    await settle();
    ws.reply("subscribe", { expires: true, ttl: 20 });
    await asked;
    await browser.advance(20000);
    assert.deepEqual(ws.command("unsubscribe").unsubscribe, { channel: "room" });
    assert.deepEqual(push.log.at(-1),
      { channel: "room", event: "unsubscribed", code: undefined, reason: "no token" });
    await assert.rejects(push.subscribe("other", { token: () => nothing }), /no token/);
    await browser.advance(60000);
    assert.deepEqual(tokens, ["too late"]);
  });
}

test("a page that could not fetch a new token tries again, later and later", async () => {
  const { browser, push, ws } = await connected();
  const times = [];
  let broken = false;
  const asked = push.subscribe("room", { token: async () => {
    times.push(browser.now);
    if (broken) throw new TypeError("Failed to fetch");
    return `token ${times.length}`;
  } });
  await settle();
  ws.reply("subscribe", { expires: true, ttl: 20 });
  await asked;
  broken = true;
  const start = browser.now;
  await browser.advance(20000 + 250 + 500);
  broken = false;
  await browser.advance(1000);
  assert.deepEqual(times.slice(1).map((time) => time - start), [20000, 20250, 20750, 21750]);
  assert.deepEqual(ws.command("sub_refresh").sub_refresh, { channel: "room", token: "token 5" });
  assert.deepEqual(told(push), ["room subscribed"]);
});

test("nobody asks for the token of a channel that is not wanted any more", async () => {
  for (const end of ["unsubscribe", "close"]) {
    const { browser, push, ws } = await connected();
    let asked = 0;
    const token = async () => { asked += 1; throw new Error("no network"); };
    push.subscribe("room", { token });
    await settle();
    push[end]("room");
    await browser.advance(60000);
    assert.equal(asked, 1);
    if (end === "close") push.reconnect();
    await settle();
    assert.equal(asked, end === "close" ? 2 : 1);
  }
});

test("a time beyond that of a timer is no time over", async () => {
  const { browser, push, ws } = await connected({ getToken: () => "t", token: "t" },
    { expires: true, ttl: 1e10 });
  push.subscribe("room", { token: () => "t" });
  await settle();
  ws.reply("subscribe", { expires: true, ttl: 1e10 });
  await browser.advance(1000);
  assert.deepEqual([ws.command("refresh"), ws.command("sub_refresh")], [undefined, undefined]);
});

// --- Presence --------------------------------------------------------------------------------------

test("who is online, and who comes into a channel", async () => {
  const { browser, push, ws } = await connected();
  const message = (data) => ws.deliver({ push: { message: { data } } });
  message({ presenceState: { online: ["7", "9"] } });
  assert.deepEqual(push.online, ["7", "9"]);
  message({ presenceNotification: { uid: "8", event: "online" } });
  message({ presenceNotification: { uid: "7", event: "offline" } });
  assert.deepEqual(push.online, ["9", "8"]);
  const info = { user: "8", client: "c8", conn_info: { name: "Eight" } };
  ws.deliver({ push: { channel: "room", join: { info } } }, { push: { channel: "room", leave: { info } } });
  assert.deepEqual(push.log.at(-1), { event: "leave", channel: "room", ...info });
  assert.deepEqual(told(push),
    ["online 7,9", "8 online", "7 offline", "room 8 join", "room 8 leave"]);
  ws.drop();
  await browser.advance(push.retryIn);
  browser.ws.serve();
  assert.deepEqual(push.online, []);
});

// --- Calls -----------------------------------------------------------------------------------------

test("publish, rpc, presence and history", async () => {
  const { push, ws } = await connected();
  const published = push.publish("room", { text: "Hi" });
  assert.deepEqual(ws.command("publish").publish, { channel: "room", data: { text: "Hi" } });
  ws.reply("publish", {});
  assert.equal(await published, undefined);
  const answer = push.rpc("vote", { article: 1 });
  assert.deepEqual(ws.command("rpc").rpc, { method: "vote", data: { article: 1 } });
  ws.reply("rpc", { data: { votes: 3 } });
  assert.deepEqual(await answer, { votes: 3 });
  const nothing = push.rpc("nothing");
  ws.reply("rpc", {});
  assert.equal(await nothing, undefined);
  const people = push.presence("room");
  ws.reply("presence", { presence: { c: { user: "7", client: "c" } } });
  assert.deepEqual(await people, { c: { user: "7", client: "c" } });
  const history = push.history("room", { limit: 2, reverse: true });
  assert.deepEqual(ws.command("history").history, { channel: "room", limit: 2, reverse: true });
  ws.reply("history", { publications: [{ data: 1, offset: 1 }], offset: 1, epoch: "e" });
  assert.deepEqual(await history, { publications: [{ data: 1, offset: 1 }], offset: 1, epoch: "e" });
});

test("a call that is refused", async () => {
  const { push, ws } = await connected();
  const call = push.rpc("x");
  ws.refuse("rpc", 111, "too many requests", true);
  await assert.rejects(call, { code: 111, message: "too many requests", temporary: true });
});

test("a call that is not answered in time", async () => {
  const { browser, push } = await connected();
  const call = assert.rejects(push.rpc("x"), { code: 0, message: "no answer in time" });
  await browser.advance(10000);
  await call;
});

test("a call waits for the connection; of one that was sent nobody knows", async () => {
  const { browser, push, ws } = await connected();
  const sent = assert.rejects(push.publish("room", 1), { code: 0, message: "connection lost" });
  ws.drop();
  await sent;
  const waiting = push.publish("room", 2);
  await browser.advance(push.retryIn);
  browser.ws.serve();
  assert.equal(browser.ws.command("publish").publish.data, 2);
  browser.ws.reply("publish", {});
  await waiting;
  const closed = assert.rejects(push.publish("room", 3), /connection lost/);
  push.close();
  await closed;
  await assert.rejects(push.rpc("x"), /it is closed/);
});
