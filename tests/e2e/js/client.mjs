// The public JavaScript client, driven by a test: a command (JSON) on each line of the standard
// input, an event (JSON) on each line of the standard output.
//
//   node client.mjs '{"url": "http://127.0.0.1:8080", "transport": "websocket"}'
//
// A command {"do": NAME, …} is answered by {"event": "done", "do": NAME, "result"?: …} or by
// {"event": "failed", "do": NAME, "code", "message"}. What the client reports comes in between.
// The end of the input is the end of the client.

import readline from "node:readline";
import { Centrifuge } from "centrifuge";
import { EventSource } from "eventsource";
import WebSocket from "ws";

const { url, transport = "websocket", ...options } = JSON.parse(process.argv[2]);

const print = (event, fields = {}) => process.stdout.write(`${JSON.stringify({ event, ...fields })}\n`);

const endpoints = {
  websocket: `${url.replace(/^http/, "ws")}/connection/websocket`,
  http_stream: `${url}/connection/http_stream`,
  sse: `${url}/connection/sse`,
};

const client = new Centrifuge([{ transport, endpoint: endpoints[transport] }], {
  websocket: WebSocket,
  eventsource: EventSource,
  fetch: globalThis.fetch,
  readableStream: globalThis.ReadableStream,
  emulationEndpoint: `${url}/emulation`,
  minReconnectDelay: 50,
  maxReconnectDelay: 300,
  ...options,
});

for (const name of ["connecting", "connected", "disconnected", "subscribing", "subscribed",
  "unsubscribed", "publication", "join", "leave", "message"]) {
  client.on(name, (context) => print(name, context));
}
client.on("error", (context) => print("error", { type: context.type, ...context.error }));

function subscribe({ channel, ...rest }) {
  const subscription = client.newSubscription(channel, rest);
  for (const name of ["subscribing", "publication", "join", "leave"]) {
    subscription.on(name, (context) => print(name, { ...context, own: true }));
  }
  subscription.on("error", (context) => print("error", { type: context.type, ...context.error }));
  return new Promise((resolve, reject) => {
    subscription.on("subscribed", (context) => {
      print("subscribed", { ...context, own: true });
      resolve(context);
    });
    subscription.on("unsubscribed", (context) => {
      print("unsubscribed", { ...context, own: true });
      reject({ code: context.code, message: context.reason });
    });
    subscription.subscribe();
  });
}

const commands = {
  connect: () => { client.connect(); },
  disconnect: () => { client.disconnect(); },
  subscribe,
  unsubscribe: ({ channel }) => { client.getSubscription(channel).unsubscribe(); },
  publish: ({ channel, data }) => client.publish(channel, data),
  presence: ({ channel }) => client.presence(channel),
  presenceStats: ({ channel }) => client.presenceStats(channel),
  history: ({ channel, ...rest }) => client.history(channel, rest),
  rpc: ({ method, data }) => client.rpc(method, data),
  send: ({ data }) => client.send(data),
  state: () => client.state,
};

async function run(line) {
  const { do: name, ...rest } = JSON.parse(line);
  try {
    print("done", { do: name, result: await commands[name](rest) });
  } catch (error) {
    print("failed", { do: name, code: error.code, message: error.message ?? String(error) });
  }
}

const input = readline.createInterface({ input: process.stdin });
input.on("line", run);
input.on("close", () => process.exit(0));
