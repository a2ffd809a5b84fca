// Socket.IO's own clients, of all generations, driven by a test: a command (JSON) on each line of
// the standard input, an event (JSON) on each line of the standard output.
//
//   node socketio.cjs
//
// {"do": "open", "id", "version", "url", "options", "authenticate"?} makes a socket that goes by
// the name `id`; what happens to it is told as {"event", "id", …}. With `authenticate` it presents
// that after every connect, as the pages of Drupal's nodejs module do. Other commands name a socket
// by its `id`, and are answered by {"event": "done", "id", "do", "result"}. The end of the input is
// the end of all clients.

"use strict";

const readline = require("node:readline");

const LIBRARIES = {
  "1.7": require("socket.io-client-1"),
  "2.5": require("socket.io-client-2"),
  "3.1": require("socket.io-client-3"),
  "4.8": require("socket.io-client-4"),
};
const DEFAULTS = {
  forceNew: true,
  reconnectionDelay: 50,
  reconnectionDelayMax: 200,
  randomizationFactor: 0.2,
  timeout: 10000,
};

const sockets = new Map();

const print = (event, fields = {}) => process.stdout.write(`${JSON.stringify({ event, ...fields })}\n`);

const words = (error) => error?.message ?? error?.description ?? String(error);

function open({ id, version, url, options, authenticate }) {
  const socket = LIBRARIES[version].connect(url, { ...DEFAULTS, ...options });
  const manager = socket.io;
  sockets.set(id, socket);
  const tell = (event, fields) => print(event, { id, ...fields });

  socket.on("connect", () => {
    tell("connect", { socket: socket.id, transport: manager.engine.transport.name });
    if (authenticate) {
      socket.emit("authenticate", authenticate, (answer) => tell("authenticated", { answer }));
    }
  });
  socket.on("message", (message) => tell("message", { message }));
  socket.on("disconnect", (reason) => tell("disconnect", { reason }));
  socket.on("connect_error", (error) => tell("failure", { why: words(error) }));
  socket.on("error", (error) => tell("failure", { why: words(error) }));

  manager.on("open", () => {
    manager.engine.on("upgrade", (transport) => tell("upgrade", { to: transport.name }));
    // All say so for each heartbeat: those up to 2.x of the answer, the later ones of their own.
    manager.engine.on("pong", () => tell("heartbeat"));
  });
}

const commands = {
  emit: (socket, { name, args }) => { socket.emit(name, ...args); },
  call: (socket, { name, args }) => new Promise((resolve) => socket.emit(name, ...args, resolve)),
  state: (socket) => ({
    connected: socket.connected,
    reconnecting: Boolean(socket.io.reconnecting || socket.io._reconnecting),
    manager: socket.io.readyState ?? socket.io._readyState,
    socket: socket.id ?? null,
  }),
  // Probe for a WebSocket now, where that was not to be done by itself.
  upgrade: ({ io: { engine } }) => { (engine.probe ?? engine._probe).call(engine, "websocket"); },
  // Lose the connection.
  cut: ({ io: { engine } }) => { engine.close(); },
  close: (socket) => { socket.close(); },
};

async function run(line) {
  const { do: name, id, ...rest } = JSON.parse(line);
  if (name === "open") {
    open({ id, ...rest });
    return;
  }
  print("done", { id, do: name, result: await commands[name](sockets.get(id), rest) ?? null });
}

const input = readline.createInterface({ input: process.stdin });
input.on("line", run);
input.on("close", () => process.exit(0));
