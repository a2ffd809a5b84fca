// uWebSockets.js, with its own publish and subscribe. npm has no package of its makers, who give it
// away on GitHub; this is version 20.30 of it, packed by others.

import uws from "@trufflesuite/uws-js-unofficial";

const app = uws.App();
app.ws("/*", { idleTimeout: 0, open: (client) => client.subscribe("all") });
app.post("/*", (response, request) => {
  const url = request.getUrl();
  const chunks = [];
  response.onAborted(() => {});
  response.onData((chunk, last) => {
    chunks.push(Buffer.from(Buffer.from(chunk)));
    if (!last) return;
    if (url === "/publish") app.publish("all", Buffer.concat(chunks), false);
    if (url === "/gc") globalThis.gc();
    response.end();
  });
});
app.listen("127.0.0.1", 0, (socket) => console.log(uws.us_socket_local_port(socket)));
process.stdin.on("end", () => process.exit()).resume();
