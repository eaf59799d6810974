// The types of overwire.js: one client for every transport of the server.

/** The transports, best first. */
export type Transport = 'websocket' | 'sse' | 'stream' | 'long-poll' | 'short-poll';

export interface Message {
  /** Its position in the room: `after` and every transport resume after it. */
  id: string;
  sender: string;
  text: string;
  /** Seconds since the epoch, by the server's clock. */
  timestamp: number;
  room: string;
}

export interface Options {
  /** The name of the room, of 1 to 64 characters. Default: `general`. */
  room?: string;
  /** The name of the sender. Needed unless the server knows who it is, by a key or a cookie. */
  sender?: string;
  /** The transports that may be used, in the order in which they are tried. Default: all. */
  transports?: Transport[];
  /**
   * An access key (`overwire key add`). It goes into the field `Authorization`; for a WebSocket, it is exchanged for a
   * ticket. A page of the server's own site needs none: it has a cookie.
   */
  key?: string;
  /**
   * Returns a ticket for one GET of an endpoint, such as `/api/ws`. For a page whose own server has the key, and asks
   * for the ticket (`POST /api/ticket`). A ticket permits no `send`. One that takes longer than 10 s has failed.
   */
  ticket?: (endpoint: string) => string | Promise<string>;
  /** The number of earlier messages to begin with, 0 to 100. Default: 0. */
  history?: number;
  /** The id of the last message that the application has, from an earlier connection. It begins after it. */
  after?: string;
  /** All tabs of the origin that ask for it share one connection to a room. Without Web Locks, each has one. */
  shared?: boolean;
  /** Names the client in the server's statistics, and in `DELETE /api/client/{id}`. Default: a random text. */
  id?: string;
  /** Returns parameters for the query of each request. */
  parameters?: () => Record<string, string>;
}

/**
 * `connecting`; `open`: the server has sent something; `waiting`: for the next attempt; `closed`: for good, because
 * `close` was called, or because the server has refused the client (`error` says why).
 */
export type State = 'connecting' | 'open' | 'waiting' | 'closed';

export interface StateDetail {
  state: State;
  transport: Transport;
  /** A sentence for people: `WebSocket: open`. */
  why: string;
  /** In the state `waiting`, the milliseconds until the next attempt. */
  wait?: number;
}

/** Messages are missing after the message `after`: the server does not have them any more. Fetch the state anew. */
export interface GapDetail {
  after: string | undefined;
}

export interface ConnectionEvents {
  message: CustomEvent<Message>;
  state: CustomEvent<StateDetail>;
  gap: CustomEvent<GapDetail>;
}

export interface Sent {
  id: string;
  timestamp: number;
}

/** A reader of a room, which stays connected until `close`. It iterates over its events `message` and `gap`. */
export interface Connection extends EventTarget, AsyncIterable<CustomEvent<Message> | CustomEvent<GapDetail>> {
  readonly id: string;
  readonly room: string;
  readonly state: State;
  readonly transport: Transport;
  /** The position: the id of the last message. Pass it as `after` to continue later. */
  readonly cursor: string | undefined;
  /** The reason for which the server has refused the client, with the `status` or the close `code`. */
  readonly error: Error & { status?: number; code?: number } | undefined;

  /**
   * Sends a text of 1 to 65,536 characters. Resolves when it is committed. Repeats a request without an answer with the
   * same key, so the message is published once. Rejects with the reason if it is refused, if it is not committed within
   * `timeout` milliseconds (default: 60,000), or if the connection is closed. The reason ends with `the message may
   * still come`, if the server was asked and has not answered, or with `the message is not sent`.
   *
   * The time includes the wait for earlier messages. Whatever it is, the last repetition is at most 4.5 minutes after
   * the first request: the server knows a key for 5 minutes.
   */
  send(text: string, options?: { sender?: string; timeout?: number }): Promise<Sent>;

  /** Ends it for good. */
  close(): void;

  addEventListener<Name extends keyof ConnectionEvents>(name: Name,
    listener: (event: ConnectionEvents[Name]) => void, options?: boolean | AddEventListenerOptions): void;
  addEventListener(name: string, listener: EventListenerOrEventListenerObject | null,
    options?: boolean | AddEventListenerOptions): void;
  removeEventListener<Name extends keyof ConnectionEvents>(name: Name,
    listener: (event: ConnectionEvents[Name]) => void, options?: boolean | EventListenerOptions): void;
  removeEventListener(name: string, listener: EventListenerOrEventListenerObject | null,
    options?: boolean | EventListenerOptions): void;
}

/** Connects to a room of the server at `url`, which may be relative to the page, and end in a path prefix. */
export function connect(url: string | URL, options?: Options): Connection;
