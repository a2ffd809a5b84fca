// How the client script comes back: when, how often, and when it does not.

import assert from "node:assert/strict";
import { test } from "node:test";

import { OPEN, World } from "./script_world.mjs";

const ALONE = { transports: ["websocket"] };

/** The delays of the attempts after a connection was lost, with this randomness. */
function delays(options, randomness, count) {
  const world = new World();
  const socket = world.connected({ ...ALONE, ...options });
  world.randomness = randomness;
  const found = [];
  for (let i = 0; i < count; i += 1) {
    world.ws.fail();
    found.push(world.delay);
    world.advance(world.delay);
  }
  assert.equal(socket.connected, false);
  return found;
}

test("a lost connection comes back, and says so", () => {
  const world = new World();
  const socket = world.connected();
  world.ws.drop();
  assert.deepEqual(socket.log, ['disconnect "transport close"']);
  assert.equal(world.sockets.length, 1);
  world.advance(250);
  assert.deepEqual(socket.log.slice(1), ["reconnect_attempt 1", "reconnecting 1"]);
  world.ws.serve();
  assert.deepEqual(socket.log.slice(3), ["reconnect 1", "connect"]);
  assert.ok(socket.connected);
});

test("attempts that fail are told and go on", () => {
  const world = new World();
  const socket = world.connected(ALONE);
  world.ws.fail();
  world.advance(250);
  world.ws.fail();
  world.advance(500);
  world.ws.serve();
  assert.deepEqual(socket.log, ["error transport error", 'disconnect "transport error"',
    "reconnect_attempt 1", "reconnecting 1", "connect_error transport error",
    "reconnect_error transport error", "reconnect_attempt 2", "reconnecting 2", "reconnect 2",
    "connect"]);
});

test("a server that is away at first is tried again", () => {
  const world = new World();
  const socket = world.socket();
  world.ws.fail();
  world.get.fail();
  assert.deepEqual(socket.log, ["connect_error transport error"]);
  world.advance(250);
  world.ws.serve();
  assert.deepEqual(socket.log.slice(1),
    ["reconnect_attempt 1", "reconnecting 1", "reconnect 1", "connect"]);
});

for (const [what, ends] of [
  ["by a close packet", (world) => world.ws.deliver("1")],
  ["by closing the WebSocket", (world) => world.ws.drop()],
]) {
  test(`a server that closes ${what} is asked again`, () => {
    const world = new World();
    const socket = world.connected();
    ends(world);
    assert.deepEqual(socket.log, ['disconnect "transport close"']);
    world.advance(500);
    world.ws.serve();
    assert.ok(socket.connected);
  });
}

test("a server that closes a poll is asked again", () => {
  const world = new World();
  const socket = world.polling();
  world.get.answer("1");
  assert.deepEqual(socket.log, ['disconnect "transport close"']);
  assert.equal(world.get, undefined);
  world.advance(500);
  world.servePoll();
  assert.ok(socket.connected);
});

test("a connection that closes before it is complete is an attempt that failed", () => {
  const world = new World();
  const socket = world.socket();
  world.ws.accept().deliver(OPEN).drop();
  assert.deepEqual(socket.log, ["connect_error transport close"]);
  assert.deepEqual(world.requests, []);
});

test("delays are anything up to a bound that doubles from 0.5 s to 20 s", () => {
  const bounds = [500, 1000, 2000, 4000, 8000, 16000, 20000, 20000];
  assert.deepEqual(delays({}, 0, 8), bounds.map(() => 0));
  assert.deepEqual(delays({}, 0.5, 8), bounds.map((bound) => bound / 2));
  const most = 1 - 1e-9;
  delays({}, most, 8).forEach((delay, i) => {
    assert.ok(delay < bounds[i] && delay > bounds[i] - 1, `${i}: ${delay}`);
  });
  assert.equal(delays({}, most, 2000).at(-1) <= 20000, true);
});

test("delays as the page wants them", () => {
  const options = { reconnectionDelay: 100, reconnectionDelayMax: 1000 };
  assert.deepEqual(delays(options, 0.5, 6), [50, 100, 200, 400, 500, 500]);
  const exact = { ...options, randomizationFactor: 0 };
  assert.deepEqual(delays(exact, 0.9, 6), [100, 200, 400, 800, 1000, 1000]);
  const half = { ...options, randomizationFactor: 0.5 };
  assert.deepEqual(delays(half, 0, 6), [50, 100, 200, 400, 500, 500]);
  assert.deepEqual(delays(half, 0.75, 6), [125, 250, 500, 1000, 1000, 1000]);
  assert.deepEqual(delays({ ...options, randomizationFactor: 7 }, 0, 2), [0, 0]);
});

test("delays start over after a connection that lasted, not after one that did not", () => {
  const world = new World();
  const socket = world.connected();
  for (const bound of [500, 1000, 2000]) {
    world.advance(9000);
    world.ws.drop();
    assert.equal(world.delay, bound / 2);
    world.advance(world.delay);
    world.ws.serve();
  }
  world.advance(10001);
  world.ws.drop();
  assert.equal(world.delay, 250);
  assert.ok(socket.log.filter((line) => line.startsWith("reconnecting"))
    .every((line) => line === "reconnecting 1"));
});

test("reconnection: false", () => {
  const world = new World();
  const socket = world.connected({ reconnection: false });
  world.ws.drop();
  assert.deepEqual([socket.log, world.timers.size], [['disconnect "transport close"'], 0]);
  assert.deepEqual(world.listeners, []);
  socket.connect();
  world.ws.serve();
  assert.ok(socket.connected);
});

test("reconnectionAttempts", () => {
  const world = new World();
  const socket = world.connected({ ...ALONE, reconnectionAttempts: 2 });
  for (let i = 0; i < 3; i += 1) {
    world.ws.fail();
    world.advance(1000);
  }
  assert.deepEqual(socket.log.slice(-3), ["connect_error transport error",
    "reconnect_error transport error", "reconnect_failed"]);
  assert.deepEqual([world.sockets.length, world.timers.size], [3, 0]);
  socket.connect();
  world.ws.fail();
  world.advance(world.delay);
  assert.equal(world.sockets.length, 5);
});

test("it never stops by default", () => {
  const world = new World();
  world.connected(ALONE);
  for (let i = 0; i < 5000; i += 1) {
    world.ws.fail();
    world.advance(20000);
  }
  assert.equal(world.sockets.length, 5001);
});

test("the page disconnects while it waits", () => {
  const world = new World();
  const socket = world.connected();
  world.ws.drop();
  socket.disconnect();
  world.dispatch("online");
  world.advance(1e6);
  assert.equal(world.sockets.length, 1);
  assert.equal(socket.log.length, 1);
  socket.connect();
  assert.equal(world.sockets.length, 2);
});

for (const event of ["disconnect", "reconnect_attempt", "connect_error", "reconnect"]) {
  test(`the page disconnects in a listener of ${event}`, () => {
    const world = new World();
    const socket = world.connected(ALONE);
    socket.once(event, () => socket.disconnect());
    world.ws.drop();
    world.advance(500);
    if (event === "connect_error") world.ws.fail();
    if (event === "reconnect") world.ws.serve();
    assert.equal(world.timers.size, 0);
    assert.equal(socket.connected, false);
    assert.equal(socket.log.includes("connect"), false);
    assert.ok(world.ws.closed || !world.ws.onmessage);
  });
}

test("the page connects while it waits: at once", () => {
  const world = new World();
  const socket = world.connected();
  world.ws.drop();
  socket.connect().connect();
  assert.equal(world.sockets.length, 2);
  world.ws.serve();
  assert.deepEqual(socket.log.slice(1),
    ["reconnect_attempt 1", "reconnecting 1", "reconnect 1", "connect"]);
  world.advance(30000);
  assert.equal(world.sockets.length, 2);
});

test("the browser goes offline and online", () => {
  const world = new World();
  const socket = world.connected(ALONE);
  const { ws } = world;
  world.dispatch("offline");
  assert.deepEqual(socket.log, ['disconnect "transport close"']);
  assert.ok(ws.closed);
  world.dispatch("offline");
  assert.equal(socket.log.length, 1);
  for (let i = 0; i < 6; i += 1) {
    world.advance(world.delay);
    world.ws.fail();
  }
  const before = world.sockets.length;
  world.dispatch("online");
  assert.equal(world.sockets.length, before + 1);
  world.dispatch("online"); // once is enough
  assert.equal(world.sockets.length, before + 1);
  world.ws.serve();
  assert.ok(socket.connected);
  socket.log.length = 0;
  world.dispatch("online");
  world.advance(20000);
  assert.equal(world.sockets.length, before + 1);
  assert.deepEqual(socket.log, []);
});

test("going offline during an attempt is a failed attempt", () => {
  const world = new World();
  const socket = world.socket();
  world.dispatch("offline");
  assert.deepEqual(socket.log, ["connect_error transport close"]);
  assert.equal(world.timers.size, 1);
});

test("a window without events does as well", () => {
  const world = new World({ without: ["addEventListener", "removeEventListener"] });
  const socket = world.connected();
  socket.disconnect();
  assert.deepEqual(socket.log, ['disconnect "io client disconnect"']);
});

test("years of attempts leave no timers, listeners or requests behind", () => {
  const world = new World();
  world.socket();
  for (let i = 0; i < 1000; i += 1) {
    world.ws.fail();
    world.get.fail();
    world.advance(world.delay); // there is one timer
    if (i % 10 === 0) {
      world.ws.serve();
      world.ws.drop();
      world.advance(world.delay);
    }
  }
  assert.equal(world.listeners.length, 2);
  assert.ok(world.requests.every((request) => !request.pending));
});
