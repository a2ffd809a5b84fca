// What the peers have in common: `POST /publish` gives its body to all clients, `POST /gc` collects
// garbage. The port goes to the standard output; the process ends with its input.

import { createServer } from "node:http";

export function serve(publish) {
  const server = createServer((request, response) => {
    const chunks = [];
    request.on("data", (chunk) => chunks.push(chunk));
    request.on("end", () => {
      if (request.url === "/publish") publish(Buffer.concat(chunks));
      if (request.url === "/gc") globalThis.gc();
      response.setHeader("Content-Length", 0);
      response.end();
    });
  });
  server.listen({ port: 0, host: "127.0.0.1", backlog: 1024 }, () => {
    console.log(server.address().port);
  });
  process.stdin.on("end", () => process.exit()).resume();
  return server;
}
