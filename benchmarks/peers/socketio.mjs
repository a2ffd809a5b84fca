// Socket.IO, with WebSocket alone and its pings out of the way.

import { Server } from "socket.io";
import { serve } from "./http.mjs";

const io = new Server(
  serve((body) => io.emit("message", JSON.parse(body))),
  { transports: ["websocket"], serveClient: false, pingInterval: 300_000 },
);
