// Node's `ws`, as its documentation broadcasts.

import { WebSocket, WebSocketServer } from "ws";
import { serve } from "./http.mjs";

const sockets = new WebSocketServer({
  server: serve((body) => {
    for (const client of sockets.clients) {
      if (client.readyState === WebSocket.OPEN) client.send(body, { binary: false });
    }
  }),
});
