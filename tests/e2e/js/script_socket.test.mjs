// What the page holds: listeners, emits and answers, and the ends of a connection.

import assert from "node:assert/strict";
import { test } from "node:test";

import { CONNECTED, OPEN, SEPARATOR, World } from "./script_world.mjs";

// --- Listeners -----------------------------------------------------------------------------

test("on, once, off and removeListener", () => {
  const world = new World();
  const socket = world.connected();
  const heard = [];
  const listener = (...args) => heard.push(["on", ...args]);
  const once = (...args) => heard.push(["once", ...args]);
  const never = () => heard.push("never");
  assert.equal(socket.on("news", listener).once("news", once).once("news", never), socket);
  socket.off("news", never);
  world.ws.deliver('42["news",1,{"a":[]}]', '42["news"]');
  assert.deepEqual(heard, [["on", 1, { a: [] }], ["once", 1, { a: [] }], ["on"]]);
  socket.removeListener("news", listener).off("unknown", listener);
  world.ws.deliver('42["news"]');
  assert.equal(heard.length, 3);
  socket.on("news", never).once("news", never).on("other", never).off("news");
  world.ws.deliver('42["news"]');
  socket.off();
  world.ws.deliver('42["other"]', '42["message",1]');
  assert.equal(heard.length, 3);
  assert.deepEqual(socket.log, []);
});

test("a listener is called with its socket as this", () => {
  const world = new World();
  const socket = world.connected();
  const seen = [];
  socket.on("a", function listener() { seen.push(this); });
  socket.once("a", function listener() { seen.push(this); });
  world.ws.deliver('42["a"]');
  assert.ok(seen.length === 2 && seen.every((each) => each === socket));
});

test("what a listener throws is reported, and stops neither the others nor the connection", () => {
  const world = new World();
  const socket = world.connected();
  const heard = [];
  socket.on("news", () => { throw new Error("first"); });
  socket.on("news", () => heard.push("second"));
  world.ws.deliver('42["news"]', '42["news"]');
  assert.deepEqual(heard, ["second", "second"]);
  assert.deepEqual(world.errors, []);
  world.advance(0);
  assert.deepEqual(world.errors.map((error) => error.message), ["first", "first"]);
  assert.equal(socket.connected, true);
});

test("connections begin and end although every listener throws", () => {
  const world = new World();
  const socket = world.socket();
  for (const event of ["connect", "disconnect", "reconnecting", "reconnect", "connect_error"]) {
    socket.on(event, () => { throw new Error(event); });
  }
  socket.emit("waiting");
  world.ws.serve();
  assert.deepEqual(world.ws.sent, ["40", '42["waiting"]']);
  world.ws.drop();
  world.advance(500);
  world.ws.fail();
  world.get.fail();
  world.advance(1000);
  world.ws.serve();
  assert.equal(socket.connected, true);
  world.advance(0);
  assert.deepEqual(world.errors.map((error) => error.message),
    ["connect", "disconnect", "reconnecting", "connect_error", "reconnecting", "reconnect",
      "connect"]);
});

test("a listener that is added or removed during an event changes nothing for that event", () => {
  const world = new World();
  const socket = world.connected();
  const heard = [];
  const late = () => heard.push("late");
  socket.on("news", () => socket.on("news", late));
  socket.on("news", () => heard.push("second"));
  world.ws.deliver('42["news"]');
  assert.deepEqual(heard, ["second"]);
});

for (const name of ["__proto__", "constructor", "toString", "hasOwnProperty", ""]) {
  test(`the event ${JSON.stringify(name)} is an event like others`, () => {
    const world = new World();
    const socket = world.connected();
    world.ws.deliver(`42${JSON.stringify([name, 1])}`); // nobody listens
    const heard = [];
    const listener = (arg) => heard.push(arg);
    socket.on(name, listener);
    world.ws.deliver(`42${JSON.stringify([name, 2])}`);
    socket.emit(name, 3);
    socket.off(name, listener);
    world.ws.deliver(`42${JSON.stringify([name, 4])}`);
    assert.deepEqual(heard, [2]);
    assert.deepEqual(world.ws.sent, ["40", `42${JSON.stringify([name, 3])}`]);
    assert.deepEqual(world.errors, []);
    assert.equal(socket.connected, true);
    assert.equal({}.polluted, undefined);
    assert.deepEqual(Object.keys(Object.prototype), []);
  });
}

test("the server cannot pretend an event of the socket, nor the page send one", () => {
  const world = new World();
  const socket = world.connected();
  world.ws.deliver('42["disconnect","x"]', '42["connect"]', '42["error","x"]');
  assert.deepEqual(socket.log, []);
  socket.emit("error", "mine");
  assert.deepEqual(socket.log, ['error "mine"']);
  assert.deepEqual(world.ws.sent, ["40"]);
});

// --- Emits and answers -----------------------------------------------------------------------

test("emit sends any arguments as JSON", () => {
  const world = new World();
  const socket = world.connected();
  const message = { authToken: "ü", contentTokens: {} };
  assert.equal(socket.emit("authenticate", message, [1], null), socket);
  socket.emit("bare");
  assert.deepEqual(world.ws.sent.slice(1),
    ['42["authenticate",{"authToken":"ü","contentTokens":{}},[1],null]', '42["bare"]']);
});

test("an answer goes to the emit that asked for it, once", () => {
  const world = new World();
  const socket = world.connected();
  const answers = [];
  socket.emit("a", 1, (...args) => answers.push(["a", ...args]));
  socket.emit("b", () => answers.push(["b"]));
  assert.deepEqual(world.ws.sent.slice(1), ['420["a",1]', '421["b"]']);
  world.ws.deliver("431[]", '430[{"result":"success"},2]', "430[3]", "431[]", "43[]", "4399[1]");
  world.advance(0);
  assert.deepEqual(world.errors, []);
  assert.deepEqual(answers, [["b"], ["a", { result: "success" }, 2]]);
  assert.equal(socket.connected, true);
});

test("what an answer's function throws stops nothing", () => {
  const world = new World();
  const socket = world.connected();
  socket.emit("a", () => { throw new Error("answer"); });
  world.ws.deliver("430[]", '42["message",1]');
  assert.deepEqual(socket.log, ["message 1"]);
  world.advance(0);
  assert.deepEqual(world.errors.map((error) => error.message), ["answer"]);
});

test("answers are not awaited over a connection that is gone", () => {
  const world = new World();
  const socket = world.connected();
  const answers = [];
  socket.emit("a", () => answers.push("old"));
  world.ws.drop();
  socket.emit("b", () => answers.push("new"));
  world.advance(500);
  world.ws.serve();
  world.ws.deliver("430[]");
  assert.deepEqual(answers, []);
  world.ws.deliver("431[]");
  assert.deepEqual(answers, ["new"]);
});

test("a listener answers the server once, and only over the same connection", () => {
  const world = new World();
  const socket = world.connected();
  const answers = [];
  socket.on("ask", (question, answer) => answers.push(answer));
  world.ws.deliver('4212["ask","?"]', '4213["ask","?"]');
  answers[0]("yes", 1);
  answers[0]("no");
  assert.deepEqual(world.ws.sent.slice(1), ['4312["yes",1]']);
  world.ws.drop();
  answers[0]("never");
  world.advance(500);
  world.ws.serve();
  answers[1]("late");
  assert.deepEqual(world.ws.sent, ["40"]);
});

test("emits wait for the connection, and come after those of connect's listeners", () => {
  const world = new World();
  const socket = world.socket();
  socket.on("connect", () => socket.emit("authenticate"));
  socket.emit("first", 1);
  const data = { value: "then" };
  socket.emit("second", data, () => {});
  data.value = "later";
  world.ws.accept().deliver(OPEN);
  assert.deepEqual(world.ws.sent, ["40"]);
  world.ws.deliver(CONNECTED);
  assert.deepEqual(world.ws.sent.slice(1),
    ['42["authenticate"]', '42["first",1]', '420["second",{"value":"then"}]']);
});

test("emits wait while there is no connection, the newest thousand of them", () => {
  const world = new World();
  const socket = world.connected();
  world.ws.drop();
  for (let i = 0; i < 1003; i += 1) socket.emit("e", i);
  world.advance(500);
  world.ws.serve();
  const sent = world.ws.sent.slice(1);
  assert.equal(sent.length, 1000);
  assert.deepEqual([sent[0], sent.at(-1)], ['42["e",3]', '42["e",1002]']);
});

test("a disconnect in connect's listener leaves the waiting emits for the next time", () => {
  const world = new World();
  const socket = world.socket();
  socket.emit("waiting");
  socket.once("connect", () => socket.disconnect());
  world.ws.serve();
  assert.deepEqual(world.ws.sent, ["40", "41"]);
  socket.connect();
  world.ws.serve();
  assert.deepEqual(world.ws.sent, ["40", '42["waiting"]']);
});

// --- Polling -----------------------------------------------------------------------------------

test("there is one POST at a time, and what waits goes together", () => {
  const world = new World();
  const socket = world.polling();
  for (const i of [1, 2, 3]) socket.emit("e", i);
  assert.deepEqual(world.post.packets, ['42["e",1]']);
  world.get.answer("2");
  world.post.answer("ok");
  assert.equal(world.post.body, ['42["e",2]', '42["e",3]', "3"].join(SEPARATOR));
  world.post.answer("ok");
  assert.equal(world.post, undefined);
  assert.equal(socket.connected, true);
});

const handshake = (maxPayload) =>
  `0{"sid":"s","pingInterval":25000,"pingTimeout":20000,"maxPayload":${maxPayload}}`;

const texts = ["", "~\x7f", "\x80é\u07ff", "\u0800漢\ud7ff", "\ue000\uffff", "😀\u{10000}\u{10ffff}"];
for (const text of texts) {
  test(`bytes count, not characters: ${JSON.stringify(text)}`, () => {
    const packets = ["a", "b"].map((each) => `42${JSON.stringify(["e", each, text])}`);
    const together = Buffer.byteLength(packets.join(SEPARATOR));
    for (const [maxPayload, body] of [[together, packets.join(SEPARATOR)],
      [together - 1, packets[0]]]) {
      const world = new World();
      const socket = world.polling({}, handshake(maxPayload));
      socket.emit("first");
      socket.emit("e", "a", text).emit("e", "b", text);
      world.post.answer("ok");
      assert.equal(world.post.body, body);
    }
  });
}

test("a packet that is too long goes alone, and all of them in order", () => {
  const world = new World();
  const socket = world.polling({}, handshake(30));
  const long = "x".repeat(40);
  for (const text of ["a", "b", long, "c", "d"]) socket.emit("e", text);
  const bodies = [];
  while (world.post) {
    bodies.push(world.post.packets);
    world.post.answer("ok");
  }
  const packet = (text) => `42${JSON.stringify(["e", text])}`;
  assert.deepEqual(bodies, [["a"], ["b"], [long], ["c", "d"]].map((each) => each.map(packet)));
});

test("a payload is read no further when a listener disconnects", () => {
  const world = new World();
  const socket = world.polling();
  socket.on("message", () => socket.disconnect());
  world.get.answer('42["message",1]', '42["message",2]');
  assert.deepEqual(socket.log, ["message 1", 'disconnect "io client disconnect"']);
  assert.equal(world.get, undefined);
});

for (const [what, breaks] of [
  ["a poll fails", (world) => world.get.fail()],
  ["a poll is refused", (world) => world.get.fail(400)],
  ["a POST fails", (world) => world.post.fail(413)],
]) {
  test(`when ${what} the connection is lost`, () => {
    const world = new World();
    const socket = world.polling();
    socket.emit("a");
    socket.emit("b");
    breaks(world);
    assert.deepEqual(socket.log, ["error transport error", 'disconnect "transport error"']);
    assert.deepEqual([world.get, world.post], [undefined, undefined]);
    world.advance(500);
    world.servePoll();
    assert.ok(socket.connected);
  });
}

// --- Ends ----------------------------------------------------------------------------------------

test("nothing for longer than pingInterval and pingTimeout is the end", () => {
  const world = new World();
  const socket = world.connected();
  world.advance(44000);
  world.ws.deliver("2");
  world.advance(44999);
  assert.equal(socket.connected, true);
  const { ws } = world;
  world.advance(1);
  assert.deepEqual(socket.log, ['disconnect "ping timeout"']);
  assert.ok(ws.closed);
  world.advance(500);
  world.ws.serve();
  assert.equal(socket.connected, true);
});

test("a poll that hangs ends likewise", () => {
  const world = new World();
  const socket = world.polling();
  const { get } = world;
  world.advance(45000);
  assert.deepEqual(socket.log, ['disconnect "ping timeout"']);
  assert.ok(get.aborted);
});

test("an OPEN without times gets the usual ones", () => {
  const world = new World();
  const socket = world.socket();
  world.ws.accept().deliver('0{"sid":"s"}', CONNECTED);
  world.advance(44999);
  assert.equal(socket.connected, true);
  world.advance(1);
  assert.equal(socket.connected, false);
});

test("the page disconnects: WebSocket", () => {
  const world = new World();
  const socket = world.connected();
  assert.equal(socket.disconnect(), socket);
  assert.deepEqual(world.ws.sent, ["40", "41"]);
  assert.ok(world.ws.closed);
  assert.deepEqual([socket.connected, socket.disconnected, socket.id], [false, true, undefined]);
  assert.deepEqual(socket.log, ['disconnect "io client disconnect"']);
  socket.close();
  world.ws.deliver('42["message",1]').drop();
  assert.equal(socket.log.length, 1);
  assert.equal(world.timers.size, 0);
  assert.deepEqual(world.listeners, []);
});

test("the page disconnects: polling", () => {
  const world = new World();
  const socket = world.polling();
  const { get } = world;
  socket.emit("a");
  socket.emit("b");
  socket.disconnect();
  socket.emit("c");
  assert.deepEqual(world.post.packets, ['42["a"]']);
  world.post.answer("ok");
  assert.deepEqual(world.post.packets, ['42["b"]', "41", "1"]);
  assert.ok(get.pending); // until the server has read the end
  world.post.answer("ok");
  assert.ok(get.aborted);
  assert.deepEqual([world.get, world.post, world.timers.size], [undefined, undefined, 0]);
  assert.deepEqual(socket.log, ['disconnect "io client disconnect"']);
});

test("the page disconnects: a poll that the server ends in between, and a POST it refuses", () => {
  const world = new World();
  const socket = world.polling();
  socket.disconnect();
  world.get.answer("6");
  world.post.fail(400);
  assert.deepEqual([world.get, world.post, world.timers.size], [undefined, undefined, 0]);
  assert.deepEqual(socket.log, ['disconnect "io client disconnect"']);
});

for (const [what, options] of [["WebSocket", {}], ["polling", { transports: ["polling"] }]]) {
  test(`the page disconnects before it is connected: ${what}`, () => {
    const world = new World();
    const socket = world.socket(options);
    const { ws, get } = world;
    socket.disconnect();
    assert.ok(ws?.closed || get.aborted);
    assert.deepEqual([socket.log, world.timers.size], [[], 0]);
    socket.connect();
    assert.equal(world.sockets.length + world.requests.length, 2);
  });
}

test("the server disconnects for good, until the page connects again", () => {
  const world = new World();
  const socket = world.connected();
  world.ws.deliver("41", '42["message",1]');
  assert.deepEqual(socket.log, ['disconnect "io server disconnect"']);
  assert.ok(world.ws.closed);
  assert.deepEqual(world.ws.sent, ["40"]);
  world.dispatch("online");
  world.advance(1e6);
  assert.equal(world.sockets.length, 1);
  assert.equal(socket.open(), socket);
  world.ws.serve();
  assert.equal(socket.log[1], "connect");
  assert.equal(socket.connect(), socket); // already
  assert.equal(world.sockets.length, 2);
});

test("the server disconnects a polling page for good", () => {
  const world = new World();
  const socket = world.polling();
  world.get.answer('42["message",1]', "41", '42["message",2]');
  world.advance(1e6);
  assert.deepEqual(socket.log, ["message 1", 'disconnect "io server disconnect"']);
  assert.deepEqual([world.get, world.post, world.timers.size], [undefined, undefined, 0]);
});

test("a page may connect again in the listener of the disconnect", () => {
  const world = new World();
  const socket = world.connected();
  socket.once("disconnect", () => socket.connect());
  world.ws.deliver("41");
  world.ws.serve();
  assert.deepEqual(socket.log, ['disconnect "io server disconnect"', "connect"]);
  assert.equal(world.sockets.length, 2);
});

for (const [packet, message, data] of [
  ['44{"message":"not you"}', "not you", { message: "not you" }],
  ['44"not you"', "not you", "not you"],
  ["44", "refused", undefined],
]) {
  test(`a refusal is final: ${packet}`, () => {
    const world = new World();
    const socket = world.socket();
    const errors = [];
    socket.on("connect_error", (error) => errors.push(error));
    world.ws.accept().deliver(OPEN, packet);
    world.advance(1e6);
    assert.deepEqual(socket.log, [`connect_error ${message}`, `error ${message}`]);
    assert.deepEqual(errors[0].data, data);
    assert.equal(world.sockets.length, 1);
  });
}

for (const packet of ["42{}", '42["a"', "42", "42[]", "42[1]", '42[{"toString":1}]', "43", "4x",
  "9", "", "0{}", OPEN, '42x["a"]', "4", CONNECTED]) {
  test(`what makes no sense is the end of the connection: ${JSON.stringify(packet)}`, () => {
    const world = new World();
    const socket = world.connected();
    world.ws.deliver(packet);
    assert.deepEqual(socket.log, ["error parse error", 'disconnect "parse error"']);
    world.advance(500);
    world.ws.serve();
    assert.ok(socket.connected);
  });
}

test("what is not for this client is passed over", () => {
  const world = new World();
  const socket = world.connected();
  world.ws.deliver('42/admin,["message",1]', '451-["message",{"_placeholder":true,"num":0}]',
    new ArrayBuffer(3), "41/admin,", '42["unheard"]');
  assert.deepEqual([socket.log, socket.connected], [[], true]);
});

test("two sockets have two connections", () => {
  const world = new World();
  const first = world.connected();
  const second = world.connected();
  world.sockets[1].deliver('42["message",1]', "41");
  assert.deepEqual([first.log, first.connected], [[], true]);
  assert.deepEqual([second.log[0], second.connected], ["message 1", false]);
});
