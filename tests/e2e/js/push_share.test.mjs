// One connection for all tabs of a browser: who has it, and what becomes of it.

import assert from "node:assert/strict";
import { test } from "node:test";

import { Browser, settle, told } from "./push_world.mjs";

const NEWS = { subs: { news: { recoverable: true, epoch: "e", offset: 5 } } };

/** Let the tabs find together: the one with the connection waits for the others' word. */
async function gather(browser) {
  await browser.advance(300);
  await settle();
}

/** So many tabs of one login, which are connected; the first has the connection. */
async function tabs(number, { options = {}, result = NEWS } = {}) {
  const browser = new Browser();
  for (let each = 0; each < number; each += 1) {
    browser.tab().connect({ token: "t", ...options });
    await gather(browser);
    if (!each) browser.ws.serve(result);
    await gather(browser);
  }
  for (const { push } of browser.tabs) assert.equal(push.state, "connected");
  for (const { push } of browser.tabs) push.log.length = 0;
  return browser;
}

/** The server's answer to who comes back. */
function came(from, to) {
  const publications = Array.from({ length: to - from }, (_, index) => from + index + 1)
    .map((offset) => ({ data: offset, offset }));
  return { epoch: "e", offset: to, was_recovering: true, recovered: true, publications };
}

const alone = ({ open }, ws) => open.length === 1 && open[0] === ws;
const heard = (browser) => browser.tabs.filter((tab) => !tab.dead).map(({ push }) => push.heard);

test("twenty tabs have one connection, and each hears everything", async () => {
  const browser = await tabs(20);
  assert.equal(browser.sockets.length, 1);
  assert.equal(new Set(browser.tabs.map(({ push }) => push.client)).size, 1);
  browser.ws.publish("news", "six", 6);
  await settle();
  assert.deepEqual(heard(browser), Array(20).fill(["six"]));
});

test("no token is in a name", async () => {
  const browser = await tabs(2, { options: { token: "very-secret", identity: "session-1" } });
  const names = [...browser.locks.names, ...browser.buses.map(({ name }) => name),
    ...browser.storage.keys()];
  assert.ok(names.length > 3);
  for (const name of names) assert.doesNotMatch(name, /secret|session/);
});

test("other logins, other servers and other data do not share", async () => {
  const browser = new Browser();
  for (const options of [{ token: "t" }, { token: "u" }, {}, { token: "t", data: 1 },
    { token: "t", url: "https://other.example/" }, { token: "x", identity: "t" },
    { token: "x", identity: "u" }, { token: "t", share: false }]) {
    browser.tab().connect(options);
  }
  await gather(browser);
  assert.equal(browser.sockets.length, 8);
  browser.tab().connect({ token: "y", identity: "t" });
  await gather(browser);
  assert.equal(browser.sockets.length, 8);
});

test("whose login it is nobody knows without a token and an identity: a cookie may say it", async () => {
  for (const options of [{}, { token: "" }, { token: "", identity: "" }, { identity: undefined }]) {
    const browser = new Browser();
    for (let each = 0; each < 2; each += 1) browser.tab().connect(options);
    await gather(browser);
    assert.deepEqual([browser.sockets.length, browser.posted], [2, []]);
  }
  const browser = new Browser();
  for (let each = 0; each < 2; each += 1) browser.tab().connect({ identity: "session-1" });
  await gather(browser);
  assert.equal(browser.sockets.length, 1);
});

test("another version of the script does not share", async () => {
  const browser = await tabs(1);
  const other = browser.tab({ replace: ['"0.1.0"', '"0.2.0"'] });
  other.connect({ token: "t" });
  await gather(browser);
  assert.equal(browser.sockets.length, 2);
});

test("without a token at hand only an identity is shared by", async () => {
  const browser = new Browser();
  const getToken = async () => "fresh each time";
  browser.tab().connect({ getToken });
  browser.tab().connect({ getToken });
  await gather(browser);
  assert.equal(browser.sockets.length, 2);
  browser.tab().connect({ getToken, identity: "me" });
  browser.tab().connect({ getToken, identity: "me" });
  await gather(browser);
  assert.equal(browser.sockets.length, 3);
});

for (const without of [["locks"], ["BroadcastChannel"]]) {
  test(`without ${without} each tab has a connection of its own`, async () => {
    const browser = new Browser();
    browser.tab({ without }).connect({ token: "t" });
    browser.tab({ without }).connect({ token: "t" });
    await gather(browser);
    assert.equal(browser.sockets.length, 2);
  });
}

// --- The end of the tab that has the connection -------------------------------------------------------

for (const end of ["kill", "close", "pagehide"]) {
  test(`it moves without loss and without doubles: ${end}`, async () => {
    const browser = await tabs(3);
    const [first] = browser.tabs;
    browser.ws.publish("news", "six", 6);
    await settle();
    if (end === "kill") first.kill();
    else if (end === "close") first.push.close();
    else first.dispatch("pagehide");
    await gather(browser);
    assert.equal(browser.sockets.length, 2);
    browser.ws.accept();
    assert.deepEqual(browser.ws.sent[0].connect.subs.news,
      { recover: true, epoch: "e", offset: 6 });
    browser.ws.reply("connect", { client: "2", subs: { news: { epoch: "e", offset: 7,
      recovered: true, was_recovering: true, publications: [{ data: "seven", offset: 7 }] } } });
    browser.ws.publish("news", "eight", 8);
    await settle();
    for (const { push } of browser.tabs.slice(1)) {
      assert.deepEqual(push.heard, ["six", "seven", "eight"]);
      assert.deepEqual([push.state, push.client], ["connected", "2"]);
      assert.deepEqual(told(push).filter((each) => each.startsWith("news")), ["news recovered"]);
    }
    assert.equal(browser.open.length, 1);
  });
}

test("it goes on from where the foremost of the tabs stands, and the others catch up", async () => {
  const browser = await tabs(3);
  // The third tab is so slow that it has not heard of this yet when the first one dies.
  const [first, second, third] = browser.tabs;
  third.freeze();
  browser.ws.publish("news", "six", 6);
  await settle();
  third.frozen.length = 0;
  first.kill();
  third.thaw();
  await gather(browser);
  const next = browser.ws.accept();
  assert.equal(next.sent[0].connect.subs.news.offset, 6);
  next.reply("connect", { client: "2", ping: 25, subs: { news: came(6, 7) } });
  await settle();
  assert.deepEqual([second.push.state, third.push.state], ["connected", "recovering"]);
  browser.ws.accept();
  assert.equal(browser.ws.sent[0].connect.subs.news.offset, 5);
  browser.ws.reply("connect", { client: "3", ping: 25, subs: { news: came(5, 7) } });
  await settle();
  assert.deepEqual([second.push.heard, third.push.heard], [["six", 7], [6, 7]]);
  assert.deepEqual([third.push.log.at(-1).client, third.push.log.at(-1).recovered], ["2", true]);
  assert.ok(alone(browser, next));
});

test("the word of a hub that was comes too late", async () => {
  const browser = await tabs(2);
  const [first, second] = browser.tabs;
  const { hub, term } = browser.posted.find(({ type }) => type === "lead");
  first.kill();
  await gather(browser);
  const bus = browser.buses.find(({ tab }) => tab === second);
  const pub = { data: "old", offset: 6 };
  second.receive(bus, { hub, term, type: "pub", channel: "news", pub });
  const { from } = browser.posted.findLast(({ type }) => type === "join");
  second.receive(bus, { hub, term, to: from, type: "pub", channel: "news", pub });
  assert.deepEqual(second.push.heard, []);
});

test("a tab that a browser froze is passed by, and finds its way when it wakes up", async () => {
  const browser = await tabs(3);
  const [first, second, third] = browser.tabs;
  first.freeze();
  second.show("hidden");
  // Somebody looks at the third.
  third.show("visible");
  await browser.advance(5000);
  assert.equal(browser.sockets.length, 2);
  browser.ws.serve({ client: "2", subs: { news: { epoch: "e", offset: 5, recovered: true } } });
  await settle();
  assert.deepEqual([second.push.client, third.push.client], ["2", "2"]);
  first.thaw();
  await gather(browser);
  assert.equal(browser.sockets[0].closed, true);
  assert.equal(browser.open.length, 1);
  assert.equal(first.push.client, "2");
  browser.ws.publish("news", "six", 6);
  await settle();
  assert.deepEqual(heard(browser), [["six"], ["six"], ["six"]]);
});

test("the next one in line is frozen, too", async () => {
  const browser = await tabs(3);
  const [first, second, third] = browser.tabs;
  second.freeze();
  first.kill();
  await browser.advance(5000);
  assert.equal(browser.sockets.length, 2);
  assert.equal(browser.ws.tab, third);
});

test("who was passed by once does not take it back at once", async () => {
  const browser = await tabs(2);
  const [first, second] = browser.tabs;
  first.show("visible"); // It asks itself.
  first.freeze();
  second.show("visible");
  await browser.advance(5000);
  browser.ws.serve({ client: "2", ...NEWS });
  first.thaw();
  for (let turn = 0; turn < 10; turn += 1) {
    await browser.advance(5000);
    browser.ws.deliver({});
  }
  assert.equal(browser.sockets.length, 2);
  assert.equal(first.push.client, "2");
});

test("a hub in the background is called by a tab in front when it is to try again", async () => {
  const browser = await tabs(2);
  const [first, second] = browser.tabs;
  browser.ws.drop();
  await settle();
  for (const [id, timer] of browser.timers) if (timer.tab === first) browser.timers.delete(id);
  await browser.advance(second.push.retryIn);
  assert.equal(browser.sockets.length, 2);
});

test("a hub that has nothing to say is asked, and is not taken for dead", async () => {
  const browser = await tabs(2);
  for (let minute = 0; minute < 6; minute += 1) {
    await browser.advance(20000);
    browser.ws.deliver({});
  }
  assert.equal(browser.sockets.length, 1);
});

test("the last tab takes everything with it", async () => {
  const browser = await tabs(3);
  for (const { push } of browser.tabs) push.close();
  await gather(browser);
  await browser.advance(30000);
  assert.equal(browser.open.length, 0);
  assert.deepEqual([browser.buses, browser.locks.names, browser.locks.waiting.length], [[], [], 0]);
  assert.equal(browser.timers.size, 0);
});

// --- A tab that comes later ---------------------------------------------------------------------------

test("a page that is a little behind gets what it missed from the other tab", async () => {
  const browser = await tabs(1);
  for (const offset of [6, 7, 8]) browser.ws.publish("news", offset, offset);
  const late = browser.tab();
  late.connect({ token: "t", positions: { news: { epoch: "e", offset: 6 } } });
  await gather(browser);
  assert.deepEqual(late.push.heard, [7, 8]);
  assert.deepEqual(told(late.push), ["online ", "news recovered", "connected"]);
  browser.ws.publish("news", 9, 9);
  await settle();
  assert.deepEqual(heard(browser), [[6, 7, 8, 9], [7, 8, 9]]);
  assert.equal(browser.sockets.length, 1);
});

test("one that is further behind has the server asked, and no other tab notices", async () => {
  const browser = await tabs(2);
  const [first, second] = browser.tabs;
  const { ws } = browser;
  ws.publish("news", 6, 6);
  const call = second.push.rpc("vote");
  const late = browser.tab();
  late.connect({ token: "t", positions: { news: { epoch: "e", offset: 3 } } });
  await gather(browser);
  assert.equal(late.push.state, "connecting");
  const aside = browser.ws.accept();
  assert.notEqual(aside, ws);
  assert.deepEqual(aside.sent[0].connect.subs, { news: { recover: true, epoch: "e", offset: 3 } });
  ws.publish("news", 7, 7); // Before the answer, and in it.
  aside.reply("connect", { client: "aside", ping: 25, subs: { news: came(3, 7), other: {} } });
  ws.publish("news", 8, 8);
  await settle();
  assert.deepEqual(heard(browser), [[6, 7, 8], [6, 7, 8], [4, 5, 6, 7, 8]]);
  assert.deepEqual(told(late.push), ["online ", "news recovered", "connected"]);
  assert.deepEqual([told(first.push), told(second.push)], [[], []]);
  assert.ok(alone(browser, ws));
  ws.reply("rpc", { data: "counted" });
  assert.equal(await call, "counted");
});

for (const end of ["too old", "refused", "lost"]) {
  test(`one that cannot be helped is told so, and the other tabs are not: ${end}`, async () => {
    const browser = await tabs(2, { options: { transports: ["websocket"] } });
    const { ws } = browser;
    const late = browser.tab();
    late.connect({ token: "t", positions: { news: { epoch: "e", offset: 1 } } });
    await gather(browser);
    const aside = browser.ws.accept();
    if (end === "too old") aside.serve({ subs: { news: { epoch: "e", offset: 5, was_recovering: true } } });
    else if (end === "refused") aside.refuse("connect", 103, "permission denied");
    for (let attempt = 0; end === "lost" && attempt < 4; attempt += 1) {
      assert.equal(late.push.state, "connecting");
      browser.ws.drop();
      await browser.advance(2000);
    }
    await settle();
    assert.deepEqual(told(late.push), ["online ", "news lost", "connected"]);
    for (const { push } of browser.tabs.slice(0, 2)) assert.deepEqual(told(push), []);
    ws.publish("news", 6, 6);
    await settle();
    assert.deepEqual(heard(browser), [[6], [6], [6]]);
    const before = browser.sockets.length;
    await browser.advance(30000);
    assert.equal(browser.sockets.length, before);
    assert.ok(alone(browser, ws));
  });
}

test("those that are behind are helped one after the other", async () => {
  const browser = await tabs(1);
  const { ws } = browser;
  for (const offset of [3, 2, 1, 4]) {
    browser.tab().connect({ token: "t", positions: { news: { epoch: "e", offset } } });
  }
  await gather(browser);
  browser.tabs[2].kill();
  await settle();
  for (const offset of [3, 1]) {
    assert.equal(browser.open.length, 2);
    const aside = browser.ws.accept();
    assert.equal(aside.sent[0].connect.subs.news.offset, offset);
    aside.reply("connect", { client: "aside", ping: 25, subs: { news: came(offset, 5) } });
    await settle();
  }
  assert.deepEqual(heard(browser), [[], [4, 5], [2, 3, 4, 5], [5]]);
  assert.ok(alone(browser, ws));
});

test("the page that had the connection goes while the server is asked for another one", async () => {
  const browser = await tabs(1);
  const [first] = browser.tabs;
  const late = browser.tab();
  late.connect({ token: "t", positions: { news: { epoch: "e", offset: 3 } } });
  await gather(browser);
  first.push.close();
  await gather(browser);
  assert.equal(browser.open.length, 1);
  assert.equal(browser.ws.accept().sent[0].connect.subs.news.offset, 3);
  browser.ws.reply("connect", { client: "2", ping: 25, subs: { news: came(3, 5) } });
  await settle();
  assert.deepEqual([late.push.state, late.push.heard], ["connected", [4, 5]]);
});

/** A tab that waits for what it missed, and the connection that is to bring it. */
async function waiting(browser) {
  const late = browser.tab();
  late.connect({ token: "t", positions: { news: { epoch: "e", offset: 3 } } });
  await gather(browser);
  return { push: late.push, late, aside: browser.ws.accept() };
}

test("while there is no connection nobody can say what is lost", async () => {
  const browser = await tabs(1);
  const { ws } = browser;
  const { push, aside } = await waiting(browser);
  ws.drop();
  aside.refuse("connect", 103, "permission denied");
  await browser.advance(1000);
  const next = browser.ws.accept();
  next.reply("connect", { client: "2", ping: 25, subs: { news: came(5, 6) } });
  await settle();
  browser.ws.accept().reply("connect", { client: "3", ping: 25, subs: { news: came(3, 6) } });
  await settle();
  assert.deepEqual([push.state, push.heard], ["connected", [4, 5, 6]]);
  assert.ok(!told(push).includes("news lost"));
});

test("more came meanwhile than is kept", async () => {
  const browser = await tabs(1);
  const { ws } = browser;
  const { push, aside } = await waiting(browser);
  for (let offset = 6; offset <= 66; offset += 1) ws.publish("news", offset, offset);
  aside.reply("connect", { client: "aside", ping: 25, subs: { news: came(3, 5) } });
  await settle();
  assert.deepEqual(told(push), ["online ", "news lost", "connected"]);
  ws.publish("news", 67, 67);
  await settle();
  assert.deepEqual(push.heard, [67]);
});

test("who comes back is connected when the tab with the connection says so", async () => {
  const browser = await tabs(1);
  const { ws } = browser;
  const { push, late } = await waiting(browser);
  late.dispatch("pagehide");
  ws.drop();
  await browser.advance(1000);
  browser.ws.serve({ client: "2", subs: { news: { epoch: "another", offset: 1 } } });
  push.log.length = 0;
  late.dispatch("pageshow", { persisted: true });
  await gather(browser);
  assert.deepEqual(push.log.filter(({ state }) => state === "connected").map(({ client }) => client), ["2"]);
});

test("a tab that missed a message asks for it", async () => {
  const browser = await tabs(2);
  const [first, second] = browser.tabs;
  second.freeze();
  browser.ws.publish("news", 6, 6);
  await settle();
  second.frozen.length = 0;
  second.thaw();
  browser.ws.publish("news", 7, 7);
  await settle();
  assert.deepEqual(heard(browser), [[6, 7], [6, 7]]);
  assert.deepEqual(told(first.push), []);
  assert.deepEqual(told(second.push), ["recovering", "news recovered", "connected"]);
  assert.equal(browser.sockets.length, 1);
});

test("of a channel of its own a tab is told with its own token what it missed", async () => {
  const browser = await tabs(2);
  const [first, second] = browser.tabs;
  const { ws } = browser;
  reading(browser, first, "of-first");
  await settle();
  ws.reply("subscribe", { epoch: "r", offset: 9 });
  const asked = second.push.subscribe("reading", { token: "of-second", since: { epoch: "r", offset: 7 } });
  await settle();
  const aside = browser.ws.serve(NEWS);
  await settle();
  assert.deepEqual(aside.command("subscribe").subscribe,
    { channel: "reading", token: "of-second", recover: true, epoch: "r", offset: 7 });
  aside.reply("subscribe", { ...came(7, 9), epoch: "r" });
  assert.equal((await asked).event, "recovered");
  assert.deepEqual(heard(browser), [[], [8, 9]]);
  assert.deepEqual(told(first.push), ["reading subscribed"]);
  assert.ok(alone(browser, ws));
});

test("of a channel in mode cache the latest is all that is missed", async () => {
  const browser = await tabs(1);
  const late = browser.tab();
  late.connect({ token: "t", positions: { news: { epoch: "e", offset: 1 } } });
  await gather(browser);
  const latest = { ...came(1, 5), publications: [{ data: "latest", offset: 5 }] };
  browser.ws.accept().reply("connect", { client: "aside", ping: 25, subs: { news: latest } });
  await settle();
  assert.deepEqual([late.push.heard, late.push.state], [["latest"], "connected"]);
});

test("one of another life of the channel is told so at once", async () => {
  const browser = await tabs(1);
  const late = browser.tab();
  late.connect({ token: "t", positions: { news: { epoch: "old", offset: 900 } } });
  await gather(browser);
  assert.deepEqual(told(late.push), ["news lost", "online ", "connected"]);
  browser.ws.publish("news", "six", 6);
  await settle();
  assert.deepEqual(late.push.heard, ["six"]);
  assert.equal(browser.sockets.length, 1);
});

// --- Channels of single tabs --------------------------------------------------------------------------

async function reading(browser, tab, token) {
  const asked = tab.push.subscribe("reading", { token });
  await settle();
  return asked;
}

test("a channel leaves with the last tab that has it", async () => {
  for (const end of ["kill", "close", "unsubscribe"]) {
    const browser = await tabs(3);
    const [, second, third] = browser.tabs;
    const asked = reading(browser, second, "of-second");
    await settle();
    browser.ws.reply("subscribe", { epoch: "r", offset: 1 });
    await asked;
    await reading(browser, third, "of-third");
    assert.equal(browser.ws.sent.filter(({ subscribe }) => subscribe).length, 1);
    const leave = (tab) => {
      if (end === "kill") tab.kill();
      else if (end === "close") tab.push.close();
      else tab.push.unsubscribe("reading");
    };
    leave(second);
    await gather(browser);
    assert.equal(browser.ws.command("unsubscribe"), undefined);
    leave(third);
    await gather(browser);
    assert.deepEqual(browser.ws.command("unsubscribe").unsubscribe, { channel: "reading" });
  }
});

test("what is said there is not heard by the other tabs", async () => {
  const browser = await tabs(3);
  const [first, second, third] = browser.tabs;
  for (const tab of [second, third]) tab.push.subscribe("reading");
  await settle();
  browser.ws.reply("subscribe", { epoch: "r", offset: 1 });
  browser.ws.publish("reading", "to readers", 2);
  const info = { user: "7", client: "c7" };
  browser.ws.deliver({ push: { channel: "reading", join: { info } } });
  browser.ws.publish("news", "to all", 6);
  await settle();
  const late = browser.tab();
  late.connect({ token: "t" });
  await gather(browser);
  const both = ["to readers", "to all"];
  assert.deepEqual(heard(browser), [["to all"], both, both, []]);
  assert.deepEqual([told(first.push), told(late.push)], [[], ["news subscribed", "online ", "connected"]]);
  assert.deepEqual(told(second.push), ["reading subscribed", "reading 7 join"]);
});

test("a channel that is for all tabs stays when a tab that asked for it, too, is gone", async () => {
  const browser = await tabs(2);
  assert.equal((await browser.tabs[1].push.subscribe("news")).event, "recovered");
  browser.tabs[1].push.close();
  await gather(browser);
  assert.equal(browser.ws.command("unsubscribe"), undefined);
  browser.ws.publish("news", "six", 6);
  await settle();
  assert.deepEqual(browser.tabs[0].push.heard, ["six"]);
});

test("each tab has a token of its own for it, and one that is bad is the tab's alone", async () => {
  const browser = await tabs(2);
  const [first, second] = browser.tabs;
  const asked = [reading(browser, first, "bad"), reading(browser, second, "good")];
  await settle();
  assert.equal(browser.ws.command("subscribe").subscribe.token, "bad");
  browser.ws.refuse("subscribe", 103, "permission denied");
  await assert.rejects(asked[0], { code: 103 });
  assert.equal(browser.ws.command("subscribe").subscribe.token, "good");
  browser.ws.reply("subscribe", { epoch: "r", offset: 1 });
  assert.equal((await asked[1]).event, "subscribed");
});

test("the channels of the tabs that are left go on after the first one died", async () => {
  const browser = await tabs(3);
  const [first, second] = browser.tabs;
  for (const tab of [first, second]) {
    const asked = tab.push.subscribe(tab === first ? "of-first" : "of-second", { token: "c" });
    await settle();
    browser.ws.reply("subscribe", { epoch: "r", offset: 1 });
    await asked;
  }
  browser.ws.publish("of-second", "two", 2);
  await settle();
  first.kill();
  await gather(browser);
  browser.ws.serve(NEWS);
  const asked = browser.ws.sent.filter(({ subscribe }) => subscribe).map((each) => each.subscribe);
  assert.deepEqual(asked, [{ channel: "of-second", token: "c", recover: true, epoch: "r", offset: 2 }]);
});

// --- Calls and tokens ---------------------------------------------------------------------------------

test("a call is answered to the tab that made it", async () => {
  const browser = await tabs(2);
  const [first, second] = browser.tabs;
  const calls = [first.push.rpc("a"), second.push.rpc("b")];
  await settle();
  for (const { id, rpc } of browser.ws.sent.filter((command) => command.rpc)) {
    browser.ws.deliver({ id, rpc: { data: `answer to ${rpc.method}` } });
  }
  assert.deepEqual(await Promise.all(calls), ["answer to a", "answer to b"]);
});

test("nobody knows what became of a call when the tab with the connection dies", async () => {
  const browser = await tabs(2);
  const [first, second] = browser.tabs;
  const call = assert.rejects(second.push.rpc("b"), { code: 0, message: "connection lost" });
  await settle();
  first.kill();
  await gather(browser);
  await call;
});

test("who takes over uses the token that the connection had: content tokens are bound to it", async () => {
  const browser = new Browser();
  for (const token of ["first", "second"]) {
    browser.tab().connect({ token, identity: "me" });
    await gather(browser);
    if (token === "first") browser.ws.serve();
  }
  browser.tabs[0].kill();
  await gather(browser);
  assert.equal(browser.ws.accept().sent[0].connect.token, "first");
  // If that is no good any more, it has its own.
  browser.ws.drop(3500, "invalid token");
  await browser.advance(1000);
  assert.equal(browser.ws.accept().sent[0].connect.token, "second");
});

test("the end of one tab's token is not the end of another's", async () => {
  const browser = new Browser();
  for (const token of ["first", "second", "first"]) {
    browser.tab().connect({ token, identity: "me" });
    await gather(browser);
    if (browser.tabs.length === 1) browser.ws.serve();
  }
  browser.ws.drop(3500, "invalid token");
  await gather(browser);
  await browser.advance(1000);
  const [first, second, third] = browser.tabs.map(({ push }) => push);
  assert.deepEqual([first.state, third.state], ["denied", "denied"]);
  assert.equal(browser.ws.accept().sent[0].connect.token, "second");
  browser.ws.serve();
  await settle();
  assert.equal(second.state, "connected");
});

test("who is kicked is kicked in all tabs", async () => {
  const browser = await tabs(3);
  browser.ws.drop(3503, "force disconnect");
  await gather(browser);
  await browser.advance(60000);
  assert.deepEqual(browser.tabs.map(({ push }) => push.state), ["denied", "denied", "denied"]);
  assert.equal(browser.sockets.length, 1);
  browser.tabs[1].push.reconnect();
  await gather(browser);
  browser.ws.serve();
  assert.equal(browser.tabs[1].push.state, "connected");
  assert.equal(browser.tabs[0].push.state, "denied");
});

test("presence is told to all tabs, and to one that comes later", async () => {
  const browser = await tabs(2);
  browser.ws.deliver({ push: { message: { data: { presenceState: { online: ["7"] } } } } });
  await settle();
  browser.tab().connect({ token: "t" });
  await gather(browser);
  assert.deepEqual(browser.tabs.map(({ push }) => push.online), [["7"], ["7"], ["7"]]);
});

// --- Whatever happens ---------------------------------------------------------------------------------

/** Numbers that look random, and are the same for a seed. */
function dice(seed) {
  let state = seed;
  return (sides) => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return Math.floor((state / 2 ** 32) * sides);
  };
}

/** A server with one channel, which keeps so many: it serves every connection that is open. */
class Server {
  constructor(browser, keeps) {
    Object.assign(this, { browser, keeps, top: 5, served: new Set() });
  }

  async serve() {
    await settle();
    for (const socket of this.browser.open) {
      if (this.served.has(socket)) socket.deliver({}); // A ping.
      else this.begin(socket);
      await settle();
    }
  }

  begin(socket) {
    this.served.add(socket);
    socket.accept();
    const { id, connect } = socket.sent[0];
    const since = connect.subs.news;
    const missed = [];
    const recovered = !!since && this.top - since.offset <= this.keeps;
    if (recovered) {
      for (let offset = since.offset + 1; offset <= this.top; offset += 1) {
        missed.push({ data: offset, offset });
      }
    }
    const news = { epoch: "e", offset: this.top, publications: missed, recovered };
    socket.deliver({ id, connect: { client: "c", ping: 25, subs: { news } } });
  }

  publish() {
    this.top += 1;
    for (const socket of this.browser.open) {
      if (this.served.has(socket)) socket.publish("news", this.top, this.top);
    }
  }
}

/** Tabs to which everything may happen; at last all of them are there. */
async function play(seed, keeps) {
  const roll = dice(seed);
  const browser = new Browser();
  const server = new Server(browser, keeps);
  const live = () => browser.tabs.filter((tab) => !tab.dead);
  const open = () => {
    const tab = browser.tab();
    tab.begun = Math.max(0, server.top - roll(5));
    const positions = { news: { epoch: "e", offset: tab.begun } };
    const push = tab.connect({ token: "t", positions, transports: ["websocket"] });
    // The offsets of messages, and where the server stands when something is lost.
    tab.story = [];
    push.onMessage(({ offset }) => tab.story.push({ offset }));
    push.onChannel(({ event }) => event === "lost" && tab.story.push({ lost: server.top }));
  };
  open();
  for (let step = 0; step < 60; step += 1) {
    const tab = live()[roll(live().length)];
    const what = roll(14);
    if (what < 5) server.publish();
    else if (what === 5) open();
    else if (what === 6 && live().length > 1) tab.kill();
    else if (what === 7 && live().length > 1) live()[0].kill();
    else if (what === 8) browser.open.at(-1)?.drop();
    else if (what === 9) tab.dispatch("pagehide");
    else if (what === 10) tab.dispatch("pageshow", { persisted: true });
    else if (what === 11) tab.freeze();
    else if (what === 12) tab.thaw();
    else await browser.advance(roll(3) * 200);
    if (roll(2)) await server.serve();
  }
  for (const tab of live()) tab.thaw();
  for (const tab of live()) tab.dispatch("pageshow", { persisted: true });
  for (let turn = 0; turn < 60; turn += 1) {
    await browser.advance(500);
    await server.serve();
  }
  assert.equal(browser.open.length, 1);
  for (const tab of live()) assert.equal(tab.push.state, "connected");
  return { server, tabs: live() };
}

for (const seed of [...Array(30).keys(), 226, 394, 1244]) {
  test(`nothing is lost and nothing comes twice, seed ${seed}`, async () => {
    const { server, tabs: all } = await play(seed, Infinity);
    for (const { push, begun } of all) {
      assert.deepEqual(push.heard, Array.from({ length: server.top - begun }, (_, index) => begun + index + 1));
      assert.ok(!told(push).includes("news lost"));
    }
  });

  test(`what is lost is told, and to nobody who was not so far behind, seed ${seed}`, async () => {
    const keeps = 3;
    const { server, tabs: all } = await play(seed, keeps);
    server.publish();
    await settle();
    for (const { story, begun } of all) {
      let [place, gap] = [begun, false];
      for (const { offset, lost } of story) {
        if (lost) assert.ok(lost - place > keeps);
        else assert.ok(gap ? offset > place : offset === place + 1, `${place}, then ${offset}`);
        [place, gap] = [offset ?? place, !offset];
      }
      assert.deepEqual([place, gap], [server.top, false]);
    }
  });
}
