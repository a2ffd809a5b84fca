// How the client script reaches the server: addresses, transports, fallback, options.

import assert from "node:assert/strict";
import { test } from "node:test";

import { CONNECTED, OPEN, SERVER, SOURCE, World } from "./script_world.mjs";

const WS = "ws://push.example:8080/socket.io/?EIO=4&transport=websocket";

test("the script is ES5, and neither evaluates text nor writes markup", () => {
  // Comments and strings aside, none of these is in it.
  const code = SOURCE.replace(/\/\*[\s\S]*?\*\//g, "").replace(/^\s*\/\/.*$|\s\/\/ .*$/gm, "")
    .replace(/'[^']*'/g, "''");
  for (const word of [/=>/, /`/, /\.\.\./, /\b(let|const|class|async|await|import|export)\b/,
    /\beval\b/, /new Function/, /innerHTML/, /document/, /cookie/i, /withCredentials/]) {
    assert.doesNotMatch(code, word);
  }
  assert.match(code, /'';/); // so that what was looked at is the code
});

test("io is global, a CommonJS module and a named AMD module", () => {
  const module = { exports: {} };
  const defined = [];
  const define = Object.assign((...args) => defined.push(args), { amd: {} });
  const world = new World({ loader: { module, define } });
  assert.equal(module.exports, world.io);
  const [[name, needs, factory]] = defined;
  assert.deepEqual([name, needs, factory()], ["socket.io", [], world.io]);
  assert.equal(world.io.protocol, 5);
  assert.equal(world.io.connect, world.io);
});

test("what only looks like a loader is left alone", () => {
  const module = {}; // as an element with this id is
  const define = () => { throw new Error("not a loader"); };
  assert.ok(new World({ loader: { module, define } }).io);
  assert.deepEqual(module, {});
});

test("a WebSocket connects", () => {
  const world = new World();
  const socket = world.socket();
  assert.equal(world.ws.url, WS);
  assert.deepEqual([socket.connected, socket.disconnected, socket.id], [false, true, undefined]);
  world.ws.accept();
  assert.deepEqual(world.ws.sent, []);
  world.ws.deliver(OPEN);
  assert.deepEqual(world.ws.sent, ["40"]);
  assert.equal(socket.connected, false);
  world.ws.deliver(CONNECTED);
  assert.deepEqual([socket.connected, socket.disconnected, socket.id], [true, false, "socket-1"]);
  world.ws.deliver('42["message",{"channel":"example"}]');
  assert.deepEqual(socket.log, ["connect", 'message {"channel":"example"}']);
  assert.deepEqual(world.requests, []);
  assert.equal(world.sockets.length, 1);
});

test("pings are answered on both transports", () => {
  const world = new World();
  world.connected();
  world.ws.deliver("2", "6", "3");
  assert.deepEqual(world.ws.sent, ["40", "3"]);
  world.polling();
  world.get.answer("2");
  assert.deepEqual(world.post.packets, ["3"]);
});

test("polling connects, and sends no cookies across origins", () => {
  const world = new World();
  const socket = world.socket({ transports: ["polling"] });
  assert.equal(world.sockets.length, 0);
  const first = world.get;
  assert.equal(first.url.origin + first.url.pathname, `${SERVER}/socket.io/`);
  assert.deepEqual([...first.url.searchParams.keys()], ["EIO", "transport", "t"]);
  first.answer('0{"sid":"a&b","pingInterval":25000,"pingTimeout":20000,"maxPayload":100000}');
  assert.equal(world.get.url.searchParams.get("sid"), "a&b");
  const { post } = world;
  assert.equal(post.url.searchParams.get("sid"), "a&b");
  assert.deepEqual([post.packets, post.headers],
    [["40"], { "Content-Type": "text/plain;charset=UTF-8" }]);
  post.answer("ok");
  world.get.answer(CONNECTED, '42["message",1]', '42["message",2]');
  world.get.answer('42["message",3]');
  assert.deepEqual(socket.log, ["connect", "message 1", "message 2", "message 3"]);
  const stamps = world.requests.map((request) => request.url.searchParams.get("t"));
  assert.equal(new Set(stamps).size, stamps.length);
  assert.ok(world.requests.every((each) => each.asynchronous && !each.withCredentials));
  assert.ok(world.requests.every((each) => each.method === "POST" ||
    Object.keys(each.headers).length === 0));
});

for (const [what, breaks] of [
  ["fails", (world) => world.ws.fail()],
  ["closes before its first packet", (world) => world.ws.accept().drop()],
  ["is never accepted", (world) => world.advance(4000)],
  ["is accepted by a proxy that swallows all", (world) => {
    world.ws.accept();
    world.advance(4000);
  }],
  ["brings something else", (world) => world.ws.accept().deliver("<html>")],
  ["brings an OPEN that is none", (world) => world.ws.accept().deliver("0{")],
]) {
  test(`polling is used when the WebSocket ${what}`, () => {
    const world = new World();
    const socket = world.socket();
    breaks(world);
    assert.ok(world.ws.closed || !world.ws.onmessage);
    world.servePoll();
    assert.deepEqual(socket.log, ["connect"]);
    // What comes late through the WebSocket is not heard.
    world.ws.serve();
    assert.deepEqual(socket.log, ["connect"]);
    assert.equal(world.sockets.length, 1);
  });
}

test("a WebSocket that the browser refuses to make leads to polling", () => {
  const world = new World();
  world.window.WebSocket = function WebSocket() { throw new Error("not allowed"); };
  const socket = world.socket();
  world.advance(0);
  world.servePoll();
  world.advance(5000);
  assert.deepEqual(socket.log, ["connect"]);
});

test("a browser without WebSocket polls at once", () => {
  const world = new World({ without: ["WebSocket"] });
  const socket = world.socket();
  world.servePoll();
  assert.deepEqual(socket.log, ["connect"]);
});

test("the page remembers that WebSockets do not get through, for ten minutes", () => {
  const world = new World();
  const socket = world.socket();
  world.ws.fail();
  world.servePoll();
  world.advance(1000);
  world.get.fail(502);
  world.advance(500);
  world.servePoll();
  assert.equal(world.sockets.length, 1);
  world.socket(); // as do other sockets of the page,
  assert.equal(world.sockets.length, 1);
  world.socket({}, "http://other.example"); // but not those to other servers,
  assert.equal(world.sockets.length, 2);
  world.socket({ transports: ["websocket"] }); // nor those that know better
  assert.equal(world.sockets.length, 3);

  for (let minute = 0; minute < 10; minute += 1) {
    world.advance(40000);
    world.requests.filter((each) => each.pending && each.method === "GET")
      .forEach((each) => each.answer("6"));
    world.advance(20000);
    world.requests.filter((each) => each.pending && each.method === "GET")
      .forEach((each) => each.answer("6"));
  }
  assert.equal(socket.connected, true);
  const before = world.sockets.length;
  world.dispatch("offline");
  world.dispatch("online");
  assert.ok(world.sockets.slice(before).some((ws) => ws.url === WS));
});

test("polling by choice says nothing about WebSockets", () => {
  const world = new World();
  world.polling();
  world.socket({ transports: ["polling"] });
  world.requests.at(-1).answer(OPEN);
  world.requests.filter((each) => each.method === "POST" && each.pending)
    .forEach((each) => each.answer("ok"));
  world.advance(20000); // no answer to the connect of the second
  world.socket();
  assert.equal(world.sockets.length, 1);
});

test("a server that is away does not count against WebSockets", () => {
  const world = new World();
  const socket = world.socket();
  world.ws.fail();
  world.get.fail();
  world.advance(500);
  assert.equal(world.sockets.length, 2);
  world.ws.serve();
  assert.ok(socket.connected);
});

test("a WebSocket that is deaf to us is followed by polling", () => {
  const world = new World();
  const socket = world.socket();
  world.ws.accept().deliver(OPEN);
  world.advance(20000);
  assert.deepEqual(socket.log, ["connect_error timeout", "connect_timeout 20000"]);
  assert.ok(world.ws.closed);
  world.advance(500);
  world.servePoll();
  assert.ok(socket.connected);
});

test("one transport alone is obeyed", () => {
  const world = new World();
  const socket = world.socket({ transports: ["websocket"] });
  world.ws.accept();
  world.advance(19999);
  assert.equal(world.sockets.length, 1);
  world.advance(1);
  assert.deepEqual(socket.log, ["connect_error timeout", "connect_timeout 20000"]);
  assert.deepEqual(world.requests, []);

  const other = new World();
  other.socket({ transports: ["polling"] });
  other.get.fail();
  other.advance(5000);
  assert.equal(other.requests.length > 1, true);
  assert.equal(other.sockets.length, 0);
});

test("a WebSocket alone in a browser without any fails as an attempt does", () => {
  const world = new World({ without: ["WebSocket"] });
  const socket = world.socket({ transports: ["websocket"] });
  assert.deepEqual(socket.log, []);
  world.advance(0);
  assert.deepEqual(socket.log, ["connect_error transport error"]);
});

for (const transports of [undefined, null, "polling", [], ["flashsocket"], { 0: "polling" },
  ["polling", "websocket"], ["__proto__", "constructor"]]) {
  test(`transports ${JSON.stringify(transports)} mean both, WebSocket first`, () => {
    const world = new World();
    world.socket({ transports });
    assert.equal(world.sockets.length, 1);
    world.ws.fail();
    assert.ok(world.get);
  });
}

for (const [name, options, expected] of [
  ["the 7.x module's", { "connect timeout": 5000 }, 5000],
  ["the 8.x module's", { timeout: 3000, transports: ["polling"], path: "/socket.io" }, 3000],
  ["both", { "connect timeout": 5000, timeout: 7000 }, 7000],
  ["text", { timeout: "6000" }, 6000],
  ["none", {}, 20000],
  ["nonsense", { timeout: -1, forceNew: true, multiplex: false, query: { a: 1 } }, 20000],
  ["more than a timer can", { timeout: 1e12 }, 0x7fffffff],
]) {
  test(`connect timeout: ${name}`, () => {
    const world = new World();
    const socket = world.socket(options);
    world.advance(expected - 1);
    assert.deepEqual(socket.log, []);
    world.advance(1);
    assert.deepEqual(socket.log, ["connect_error timeout", `connect_timeout ${expected}`]);
    assert.ok(world.requests.every((request) => request.aborted));
  });
}

test("with a short timeout, polling gets half of it", () => {
  const world = new World();
  const socket = world.socket({ timeout: 5000 });
  world.advance(2500);
  world.servePoll();
  assert.ok(socket.connected);
});

test("later attempts are given more time", () => {
  const world = new World();
  const socket = world.socket({ timeout: 6000, transports: ["websocket"] });
  world.randomness = 0;
  world.advance(200000);
  const timeouts = socket.log.filter((line) => line.startsWith("connect_timeout"));
  assert.deepEqual(timeouts.slice(0, 5).map((line) => line.split(" ")[1]),
    ["6000", "12000", "18000", "20000", "20000"]);
});

for (const [url, page, expected] of [
  [undefined, "https:", "wss://site.example/socket.io/"],
  ["", "http:", "ws://site.example/socket.io/"],
  ["/chat", "http:", "ws://site.example/socket.io/"],
  ["//push.example:81", "https:", "wss://push.example:81/socket.io/"],
  ["http://push.example", "https:", "ws://push.example/socket.io/"],
  ["https://push.example:8443/", "http:", "wss://push.example:8443/socket.io/"],
  ["https://push.example/chat?x=1#y", "http:", "wss://push.example/socket.io/"],
  ["HTTPS://Push.Example", "http:", "wss://Push.Example/socket.io/"],
  ["wss://push.example", "http:", "wss://push.example/socket.io/"],
  ["push.example:8080", "https:", "wss://push.example:8080/socket.io/"],
  ["push.example:8080", "file:", "ws://push.example:8080/socket.io/"],
  ["http://[::1]:8080/", "http:", "ws://[::1]:8080/socket.io/"],
]) {
  test(`the address ${url} on a page of ${page}`, () => {
    const world = new World({ location: { protocol: page, host: "site.example" } });
    world.io(url);
    assert.equal(world.ws.url, `${expected}?EIO=4&transport=websocket`);
  });
}

for (const [options, expected] of [
  [{ path: "/push/socket.io" }, "/push/socket.io/"],
  [{ path: "/socket.io/" }, "/socket.io/"],
  [{ resource: "push" }, "/push/"],
  [{ path: "" }, "/socket.io/"],
]) {
  test(`the path of ${JSON.stringify(options)}`, () => {
    const world = new World();
    world.io(options); // options alone: the page's own server
    assert.equal(world.ws.url, `ws://site.example${expected}?EIO=4&transport=websocket`);
  });
}
