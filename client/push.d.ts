/** How a connection is carried, the best first. */
export type Transport = "websocket" | "http_stream" | "sse" | "poll";

/** Where a channel with history stands: what the server's API gives as `offset` and `epoch`. */
export interface Position {
  offset: number;
  epoch: string;
}

/**
 * `connecting`: for the first time. `recovering`: the connection was lost, and is being taken up
 * again. `denied`: the server wants this page to stay away. `closed`: the page itself closed it.
 */
export type State = "connecting" | "connected" | "recovering" | "denied" | "closed";

/** What is told with a state. */
export interface Status {
  state: State;
  /**
   * Close code of the server, or code of its error. Where the connection just broke it is 1006 for a
   * WebSocket, 0 else.
   */
  code?: number;
  reason?: string;
  /** Milliseconds until the next attempt. */
  retryIn?: number;
  /** While connected. */
  transport?: Transport;
  /** The server's id of the connection, while connected. All tabs that share it have the same. */
  client?: string;
  /**
   * On the way back from `recovering`: false if something of a channel with history is lost. Which
   * one, `onChannel` has told before.
   */
  recovered?: boolean;
}

/** One publication. `data` is whatever the CMS published: treat it as text, not as markup. */
export interface Message<Data = unknown> {
  channel: string;
  data: Data;
  /** Where the channel keeps history. */
  offset?: number;
  /** Unix milliseconds, where the channel keeps history. */
  time?: number;
  tags?: Record<string, string>;
  /** Who sent it, if a client did. */
  info?: Person;
}

/** A client in a channel. */
export interface Person {
  user: string;
  client: string;
  conn_info?: unknown;
  chan_info?: unknown;
}

/**
 * `subscribed`: it begins. `recovered`: it goes on, and nothing is missing. `lost`: it goes on, and
 * something is missing: load the content anew. `unsubscribed`: refused, taken away, or at its end.
 */
export type ChannelEvent =
  | { channel: string; event: "subscribed" | "recovered" | "lost"; data?: unknown }
  | { channel: string; event: "unsubscribed"; code?: number; reason?: string };

export type PresenceEvent =
  /** Who of those that this user may see is online, at the beginning of each connection. */
  | {
      event: "state";
      online: string[];
      /** How many others there are, if they are too many to be named. */
      more?: number;
    }
  /** One of them came or went. */
  | { event: "online" | "offline"; user: string }
  /** A client came into a channel or left it. */
  | ({ event: "join" | "leave"; channel: string } & Person);

export interface Options {
  /** The server's address. Without it: attribute `data-push-url`, or where the script is from. */
  url?: string;
  /** What the page presents. Without it: attribute `data-push-token`. */
  token?: string;
  /**
   * Gives a token, if there is none or its time is over. One that fails is called again later. With
   * this alone tabs do not share a connection: give `identity`, too.
   */
  getToken?: () => string | Promise<string>;
  /** For the CMS, with the token. */
  data?: unknown;
  /** Positions that the page was rendered at. Without it: attribute `data-push-positions`. */
  positions?: Record<string, Position>;
  /** Those that may be used, the best first. */
  transports?: Transport[];
  /**
   * One connection for all tabs of this login, where the browser can and the page has a token or an
   * identity. Default: true.
   */
  share?: boolean;
  /**
   * Whose login this is, if tokens of one login differ or there is none at hand. Tabs share a
   * connection only if this is the same, or without it the token. Those that have neither do not.
   */
  identity?: string;
  /** Seconds after which a tab in the background gives up its connection. Default: never. */
  pauseHidden?: number;
}

export interface SubscribeOptions {
  /**
   * A content token, a subscription token, or what gives one each time that it is needed. If that
   * fails it is called again later; it gives null to say that there is none, which ends the channel.
   */
  token?: string | ((channel: string) => string | null | Promise<string | null>);
  /** Position from which the page goes on. */
  since?: Position;
  /** For the CMS, if it decides. */
  data?: unknown;
}

export interface HistoryOptions {
  limit?: number;
  since?: Position;
  reverse?: boolean;
}

/** What promises are rejected with. `code` is the server's, 0 if the connection was lost. */
export interface PushError extends Error {
  code: number;
  temporary: boolean;
}

/** Takes a callback away again. */
export type Off = () => void;

export interface Push {
  readonly state: State;
  readonly transport: Transport | undefined;
  readonly client: string | undefined;
  /** Users that are online, of those that this one may see. */
  readonly online: string[];

  /** Call a function for each publication of a channel; any number of them. */
  on<Data = any>(channel: string, callback: (data: Data, message: Message<Data>) => void): Off;
  /** Take one callback of a channel away, or all. */
  off(channel: string, callback?: (data: any, message: Message<any>) => void): void;
  /** Call a function for each publication of all channels. */
  onMessage(callback: (message: Message<any>) => void): Off;
  onState(callback: (state: State, status: Status) => void): Off;
  onChannel(callback: (event: ChannelEvent) => void): Off;
  onPresence(callback: (event: PresenceEvent) => void): Off;

  /** Ask for a channel; it is asked for again after each loss of the connection. */
  subscribe(channel: string, options?: SubscribeOptions): Promise<ChannelEvent>;
  unsubscribe(channel: string): void;
  publish(channel: string, data: unknown): Promise<void>;
  /** Ask the CMS something. */
  rpc<Result = any>(method: string, data?: unknown): Promise<Result>;
  /** Who is in a channel, by client id. */
  presence(channel: string): Promise<Record<string, Person>>;
  history(
    channel: string,
    options?: HistoryOptions,
  ): Promise<{ publications: Omit<Message<any>, "channel">[]; offset?: number; epoch?: string }>;

  /** Disconnect for good. */
  close(): void;
  /** Connect again after `denied` or `closed`. */
  reconnect(): void;
}

/** Connect to a server. */
export function connect(options?: Options): Push;
export const version: string;

declare const push: { connect: typeof connect; version: string };
export default push;

/** The global of pages that load the script by its element. */
export as namespace Push;
