// Each part of the API as a program in TypeScript uses it. The tests check it against the types.

import push, { connect, type ChannelEvent, type Message, type Push, type Status } from "twisted-push";

const live: Push = connect({
  url: "https://push.example.org/",
  getToken: async () => (await fetch("/push-token")).text(),
  identity: "session-1",
  transports: ["websocket", "poll"],
  positions: { "article:1": { offset: 12, epoch: "b7k2" } },
  pauseHidden: 600,
});

const off = live.on<{ title: string }>("article:1", (data, message) => {
  document.title = `${data.title} (${message.offset ?? "-"})`;
});
live.onMessage((message: Message<any>) => console.log(message.channel, message.tags?.kind));
live.onState((state, status: Status) => {
  if (state === "connected" && status.recovered === false) location.reload();
});
live.onChannel((event: ChannelEvent) => {
  if (event.event === "unsubscribed") console.log(event.code, event.reason);
});
live.onPresence((event) => {
  if (event.event === "state") console.log(event.online.length);
  else if (event.event === "join") console.log(event.channel, event.user);
});

const begun = await live.subscribe("chat:9", { token: async (channel) => `for ${channel}` });
console.log(begun.event, live.state, live.transport, live.client, live.online.join());
await live.publish("chat:9", { text: "Hello" });
const votes = await live.rpc<{ votes: number }>("vote", { article: 1 });
const people = Object.values(await live.presence("chat:9")).map((person) => person.user);
const { publications } = await live.history("chat:9", { limit: 20, reverse: true });
console.log(votes.votes + people.length + publications.length);
off();
live.off("article:1");
live.unsubscribe("chat:9");
live.close();
live.reconnect();

// @ts-expect-error: there is no such transport
push.connect({ transports: ["carrier pigeon"] });
