// One client for every transport of the server. It chooses the best transport that works here, falls back when one is
// blocked, and comes back. It runs in a page, in a worker and in Node, and imports nothing: to use it, copy this file.
//
//   import { connect } from './overwire.js';
//
//   const room = connect('/', { room: 'tea', sender: 'ada' });
//   room.addEventListener('message', ({ detail }) => console.log(detail.sender, detail.text));
//   await room.send('hello');
//
// overwire.d.ts describes each option, member and event. The parts, each made of those before it: waiting, requests, a
// reader of a room, the transports, and the choice between them. The lanes of the page (lanes/) are made of the first
// four.

// ---- Waiting: for the next attempt, and for a sign of life.

const BACKOFF_BASE = 500; // milliseconds
const BACKOFF_CAP = 30_000;

/**
 * The milliseconds to wait after a number of failures. The wait is random between 0 and its longest (full jitter):
 * otherwise a thousand clients of a server that was restarted would return in one moment.
 */
export function backoff(failures) {
  return Math.random() * Math.min(BACKOFF_CAP, BACKOFF_BASE * 2 ** failures);
}

/**
 * Waits. Ends early when `signal` aborts, and, unless the wait is firm, when the network is back and when the tab is
 * shown again. Leaves no timer behind.
 */
export function sleep(milliseconds, signal, isFirm = false) {
  return new Promise((resolve) => {
    const over = new AbortController();
    const timer = setTimeout(() => done(), milliseconds);
    const listen = (target, name) => target?.addEventListener?.(name, done, { signal: over.signal });
    listen(signal, 'abort');
    if (!isFirm) {
      listen(globalThis, 'online');
      listen(globalThis.document, 'visibilitychange');
    }
    if (signal.aborted) {
      done();
    }
    function done({ type } = {}) {
      if (type === 'visibilitychange' && document.hidden) {
        return;
      }
      clearTimeout(timer);
      over.abort();
      resolve();
    }
  });
}

/**
 * Makes a controller that also aborts when `signal` does. `AbortSignal.any` would do, but WebKit collects its result
 * while a request still uses it, and then the request never ends.
 */
export function controllerWithin(signal) {
  const controller = new AbortController();
  const follow = () => controller.abort(signal.reason);
  signal?.addEventListener('abort', follow, { signal: controller.signal });
  if (signal?.aborted) {
    follow();
  }
  return controller;
}

/** Settles like `promise`, but rejects at once when `signal` aborts. Leaves no listener behind. */
async function unlessAborted(signal, promise) {
  signal.throwIfAborted();
  const over = new AbortController();
  try {
    return await Promise.race([promise, new Promise((_, reject) => {
      signal.addEventListener('abort', () => reject(signal.reason), { signal: over.signal });
    })]);
  } finally {
    over.abort();
  }
}

const LATE = 2_000; // milliseconds

/**
 * A watch on silence: calls `act` with an error when `heard` was not called for `limit` milliseconds. `end` stops it.
 *
 * A connection is not closed when its other end vanishes, because a cable was pulled or a proxy forgot it. It is
 * silent, and nothing notifies the reader. So every wait has a limit. Each byte starts the limit again: a slow answer
 * is not a dead one.
 */
export class Silence {
  #limit;
  #act;
  #question;
  #timer;
  #due;

  /**
   * With `question`, `{ after, ask }`, it calls `ask` after `after` milliseconds, and the rest of the limit begins
   * then. One timer follows the other, because a hidden tab runs its timers late and together, and the answer needs its
   * time even then.
   */
  constructor(limit, act, question) {
    this.#limit = limit;
    this.#act = () => act(new Error(`nothing came for ${limit / 1000} s`));
    this.#question = question;
    this.heard();
  }

  heard() {
    this.end();
    if (!this.#question) {
      this.#wait(this.#limit);
      return;
    }
    const { after, ask } = this.#question;
    this.#timer = setTimeout(() => {
      this.#wait(this.#limit - after);
      ask();
    }, after);
  }

  end() {
    clearTimeout(this.#timer);
  }

  /**
   * A timer that fires late shows that the tab was frozen, the machine was suspended, or the clock was set. What came
   * in time has not been read yet, so there is a little time for it.
   */
  #wait(milliseconds) {
    this.#due = Date.now() + milliseconds;
    this.#timer = setTimeout(() => {
      Date.now() - this.#due > LATE ? this.#wait(LATE) : this.#act();
    }, milliseconds);
  }
}

// ---- Requests.

/** A UUID of version 4 (RFC 9562, section 5.4). `crypto.randomUUID` exists only in a secure context. */
export function uuid() {
  if (crypto.randomUUID) {
    return crypto.randomUUID();
  }
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  bytes[6] = (bytes[6] & 0x0f) | 0x40;
  bytes[8] = (bytes[8] & 0x3f) | 0x80;
  const hex = Array.from(bytes, (byte) => byte.toString(16).padStart(2, '0')).join('');
  return hex.replace(/^(.{8})(.{4})(.{4})(.{4})/, '$1-$2-$3-$4-');
}

/**
 * Makes a request and yields the text of the answer as it arrives. Calls `onHead` when the head is there. Throws if the
 * status is not a success, with `status` and the server's explanation; if nothing arrives for `limit` milliseconds; and
 * if `signal` aborts.
 */
export async function* request(url, { limit, signal, onHead, ...init }) {
  const over = controllerWithin(signal);
  const silence = new Silence(limit, (error) => over.abort(error));
  try {
    const response = await plainly('the server cannot be reached', over.signal,
      fetch(url, { ...init, signal: over.signal }));
    silence.heard();
    const texts = response.body ? decoded(response.body, over.signal, silence) : [];
    if (!response.ok || response.status === NO_CONTENT) {
      throw refusal(response, await whole(texts));
    }
    onHead?.();
    yield* texts;
  } finally {
    silence.end();
    over.abort(); // whatever ends this early ends the request
  }
}

/** Every browser has other words for an error of the network, and for the end of a request. Here they are the same. */
async function plainly(words, signal, promise) {
  try {
    return await promise;
  } catch (error) {
    throw signal.aborted ? signal.reason : error instanceof TypeError ? new Error(words, { cause: error }) : error;
  }
}

/** The pieces of a body as text. A character can be split over two pieces: the decoder keeps its first part. */
async function* decoded(body, signal, silence) {
  const reader = body.getReader();
  const decoder = new TextDecoder();
  try {
    for (;;) {
      const { done, value } = await plainly('the connection was lost', signal, reader.read());
      silence.heard();
      if (done) {
        return;
      }
      yield decoder.decode(value, { stream: true });
    }
  } finally {
    reader.cancel().catch(() => {}); // a reader that stops early gives the connection back
  }
}

/** All the texts, joined. */
export async function whole(texts) {
  let all = '';
  for await (const text of texts) {
    all += text;
  }
  return all;
}

/**
 * The lines of a text that arrives in pieces. A piece can end anywhere, so `rest` keeps the unfinished line; a CR at
 * its end may be half of a CRLF. A last line without its end was cut off: the cursor brings it again, whole.
 */
export async function* lines(texts) {
  let rest = '';
  for await (const text of texts) {
    const parts = (rest + text).split(/\r\n|\n|\r(?!$)/);
    rest = parts.pop();
    yield* parts;
  }
}

/** The events of an event stream: { event, data, retry }, with the last value of each field (WHATWG HTML, 9.2.6). */
async function* events(texts) {
  let event = {};
  for await (const line of lines(texts)) {
    const [, name, value] = /^([^:]*):? ?(.*)$/s.exec(line);
    if (line === '') {
      yield event;
      event = {};
    } else if (name === 'data' && 'data' in event) {
      event.data += `\n${value}`;
    } else {
      event[name] = value; // a comment has the empty name
    }
  }
}

const LONGEST = 86_400; // seconds of Retry-After, or of `retry`, that are believed. A timer takes 24 days.

/** The value of `retry`: digits, or it is ignored (WHATWG HTML, 9.2.6). */
const retryTime = (retry) => /^\d+$/.test(retry) ? Math.min(Number(retry), LONGEST * 1000) : undefined;

/**
 * The error for a status that is not a success. A proxy answers in HTML: then only the status is known. `explained` is
 * true for an answer of the server itself. `wait` has the milliseconds that Retry-After demands.
 */
function refusal({ status, statusText, headers }, content) {
  let said;
  try {
    said = JSON.parse(content).error;
  } catch {
    // not of the server
  }
  const seconds = Math.min(Number(headers.get('Retry-After')), LONGEST) || undefined; // a date counts as none
  const wait = seconds && seconds * 1000;
  return Object.assign(new Error(`${status} ${said ?? statusText}`), { status, explained: said !== undefined, wait });
}

// ---- A reader of a room.

/**
 * A reader of one room: its position, its requests, and what it does with the answers. It reports by events, with the
 * data in `detail`; lanes/lane.js lists them. A transport calls `opened` when a connection works.
 */
export class Reader extends EventTarget {
  /** Milliseconds without a byte after which a connection is dead. The server sends something every 15 s. */
  static SILENCE = 20_000;
  /** The same for a request that is answered at once. */
  static ANSWER = 10_000;
  /** Milliseconds of silence after which a WebSocket asks for a sign of life: a page sees no ping. */
  static HEARTBEAT = 15_000;

  /** Names this reader on each of its connections: GET /api/stats counts by it, DELETE /api/client/{id} ends them. */
  id = undefined;
  /** The id of the last message received. Every transport resumes after it. */
  cursor = undefined;

  /** `base` is the URL of the server, with a slash at its end. */
  constructor(base, room) {
    super();
    this.base = base;
    this.room = room;
  }

  /** Parameters of every URL. */
  extra() {
    return {};
  }

  /** Parameters and header fields that prove who asks. */
  async permit() {
    return {};
  }

  opened() {}

  /** The parameters that name the reader, the room, and the message after which it resumes. */
  position(cursorName = 'last_message_id') {
    const cursor = this.cursor === undefined ? {} : { [cursorName]: this.cursor };
    return { room: this.room, client_id: this.id, ...cursor };
  }

  /** The URL of a path such as `/api/poll`, which is relative to the server's. */
  url(path, parameters = {}) {
    return `${this.base}${path.slice(1)}?${new URLSearchParams({ ...parameters, ...this.extra() })}`;
  }

  /** The same for a WebSocket: some browsers do not take a scheme of HTTP there. */
  socketUrl(path, parameters) {
    return this.url(path, parameters).replace(/^http/, 'ws');
  }

  /** Makes a request and yields its answer as it arrives. */
  async *request(method, path, parameters, { headers, ...options } = {}) {
    const permission = await this.permit(method, path);
    this.wire('request', `${method} ${path}`);
    const url = this.url(path, { ...parameters, ...permission.parameters });
    yield* request(url, { method, headers: { ...headers, ...permission.headers }, ...options });
  }

  /** Makes a request and returns the JSON of its answer. */
  async ask(method, path, parameters, { content, limit = this.constructor.ANSWER, signal } = {}) {
    const json = { headers: { 'Content-Type': 'application/json' }, body: JSON.stringify(content) };
    const options = { limit, signal, ...(content && json) };
    return JSON.parse(await whole(this.request(method, path, parameters, options)));
  }

  /** A short poll from the position. It is answered at once. */
  async catchUp(signal) {
    this.take(await this.ask('GET', '/api/messages', this.position(), { signal }), signal);
  }

  /** Takes the last messages of the room, and its position. With a limit of 0: the position alone. */
  async begin(limit, signal) {
    const parameters = { room: this.room, limit: Math.max(limit, 1) };
    const { messages } = await this.ask('GET', '/api/history', parameters, { signal });
    if (messages.length === 0) {
      await this.catchUp(signal);
    } else if (limit === 0) {
      this.cursor = messages.at(-1).id;
    } else {
      this.receiveAll(messages, signal);
    }
  }

  receive(message) {
    this.cursor = message.id;
    this.report('message', message);
  }

  /** A listener may stop this reader. The messages after that one are for its next connection. */
  receiveAll(messages, signal) {
    for (const message of messages) {
      signal.throwIfAborted();
      this.receive(message);
    }
  }

  /** The answer to a poll. It names the newest message even if it brings none. */
  take({ messages, recovered, last_message_id: newest }, signal) {
    if (recovered === false) {
      this.missing();
    }
    if (messages.length === 0) {
      this.wire('empty', 'nothing new');
    }
    this.receiveAll(messages, signal);
    signal.throwIfAborted();
    this.cursor = newest;
  }

  /** One JSON value from a stream or a socket: a message, a notice, a heartbeat or an error. */
  receiveValue(value) {
    if (value.type === 'notice') {
      this.cursor = value.last_message_id; // the cursor was too old, or from the log of an earlier server
      this.missing();
    } else if (value.type === 'heartbeat') {
      this.wire('heartbeat', 'heartbeat');
    } else if (value.type === 'error') {
      this.report('problem', value.error);
    } else if (value.type === 'unauthorized') {
      throw Object.assign(new Error(value.error), { status: value.status, explained: true });
    } else if (value.type === 'ended') {
      throw Object.assign(new Error(value.reason), { code: VIOLATION });
    } else {
      this.receive(value);
    }
  }

  missing(text = 'Messages are missing: the server no longer had everything since the last one.') {
    this.report('notice', text);
  }

  wire(what, text) {
    this.report('wire', { what, text });
  }

  report(name, detail) {
    this.dispatchEvent(new CustomEvent(name, { detail }));
  }
}

// ---- The transports. Each makes one connection of a reader, and returns or throws when it is over.

/** Server-sent events, read by `fetch`: it shows the status, and exists in Node. Only a page has an `EventSource`. */
async function sse(reader, signal) {
  const options = { signal, limit: reader.constructor.SILENCE };
  const texts = reader.request('GET', '/api/events', reader.position('last_event_id'), options);
  for await (const { event = 'message', data, retry } of events(texts)) {
    signal.throwIfAborted(); // one read can bring several events, and none may be used after the end
    reader.opened();
    reader.retry = retryTime(retry) ?? reader.retry;
    if (event === 'heartbeat') {
      reader.receiveValue({ type: 'heartbeat' });
    } else if (data !== undefined && event !== 'connected') {
      reader.receiveValue(JSON.parse(data));
    }
  }
}

/** HTTP streaming: one answer that does not end, with one JSON value on each line. The first line is empty. */
export async function stream(reader, signal) {
  const options = { signal, limit: reader.constructor.SILENCE };
  for await (const line of lines(reader.request('GET', '/api/stream', reader.position(), options))) {
    signal.throwIfAborted(); // one read can bring several lines, and none may be used after the end
    reader.opened();
    reader.receiveValue(line === '' ? { type: 'heartbeat' } : JSON.parse(line));
  }
}

export const HELD = 25; // seconds: then the server answers a held poll in any case

/**
 * Long polling. The first question is answered at once: a held one says nothing, so it would not show that it works.
 * A held answer is silent by design. It is dead only if it takes longer than the time it was asked for.
 */
export async function longPoll(reader, signal, limit = (HELD + 5) * 1000) {
  reader.opened('holding');
  for (;;) {
    const parameters = { ...reader.position(), timeout: HELD };
    reader.take(await reader.ask('GET', '/api/poll', parameters, { signal, limit }), signal);
  }
}

/** Short polling. The wait begins after the answer, so two requests never overlap, however slow the server is. */
export async function shortPoll(reader, signal, interval = 2_000) {
  while (!signal.aborted) {
    const answer = await reader.ask('GET', '/api/messages', reader.position(), { signal });
    reader.opened();
    reader.take(answer, signal);
    if (answer.stopPolling) {
      return reader.stop();
    }
    await sleep(interval, signal);
  }
}

/**
 * Reads a socket until it closes or falls silent, or `signal` aborts. Calls `onOpen`, `onText` with each message, and
 * `ask` when it was silent for a while and has to show that it is alive.
 */
export function readSocket(socket, signal, { limit, after, onOpen, onText, ask }) {
  return new Promise((resolve, reject) => {
    const silence = new Silence(limit, reject, { after, ask: () => socket.readyState === WebSocket.OPEN && ask() });
    socket.addEventListener('open', () => {
      silence.heard();
      onOpen();
    });
    socket.addEventListener('message', ({ data }) => {
      silence.heard();
      try {
        signal.aborted || onText(data); // what comes after the end is for the next socket
      } catch (error) {
        reject(error);
      }
    });
    socket.addEventListener('error', ({ message }) => message && reject(new Error(message))); // a page gets none
    socket.addEventListener('close', ({ code, reason }) => {
      reject(Object.assign(new Error(`closed with ${code}${reason && `: ${reason}`}`), { code }));
    });
    signal.addEventListener('abort', () => {
      silence.end();
      socket.close(1000);
      reject(signal.reason); // without waiting for the closing handshake: a dead server takes no part in it
    });
  });
}

/**
 * WebSocket. A proxy can accept the handshake and pass nothing on, so the socket is open when the server has said
 * something, and it is asked to.
 */
async function webSocket(reader, signal) {
  const { parameters } = await reader.permit('GET', '/api/ws') ?? {};
  signal.throwIfAborted();
  reader.wire('request', 'GET /api/ws');
  const socket = new WebSocket(reader.socketUrl('/api/ws', { ...reader.position(), ...parameters }));
  const ask = () => socket.send('{"type":"heartbeat"}');
  const onText = (data) => {
    reader.opened();
    reader.receiveValue(JSON.parse(data));
  };
  const { SILENCE, HEARTBEAT } = reader.constructor;
  await readSocket(socket, signal, { limit: SILENCE, after: HEARTBEAT, onOpen: ask, onText, ask });
}

/**
 * The transports, best first: each is slower than the one before it, or costs more bytes a message, and needs less of
 * the proxies on the way. WebSocket needs an upgrade; a stream needs a proxy that does not buffer; long polling, one
 * that permits an answer after half a minute; short polling needs nothing.
 */
const TRANSPORTS = {
  'websocket': { title: 'WebSocket', read: webSocket },
  'sse': { title: 'Server-sent events', read: sse },
  'stream': { title: 'HTTP streaming', read: stream },
  'long-poll': {
    title: 'Long polling',
    async read(reader, signal) {
      await reader.catchUp(signal);
      await longPoll(reader, signal);
    },
  },
  'short-poll': { title: 'Short polling', read: shortPoll },
};

// ---- The choice between them.

const NO_CONTENT = 204; // tells an event stream to stay away
const UNAUTHORIZED = 401;
const NOT_FOUND = 404; // there are no tickets where there are no identities
const FINAL = [400, UNAUTHORIZED, 403, 421]; // statuses that asking again does not change
const PASSING = [408, 429, 500, 502, 503, 504]; // and those that it may
const AWAY = [1000, 1001, 1005, 1012, 1013]; // close codes by which a server that works ends a connection
const SESSION_OVER = 4401; // close code
const STAY_AWAY = [SESSION_OVER, 4403]; // close codes: the session is over, the right is lost
const VIOLATION = 1008; // close code
const OVER_LIMIT = [VIOLATION, 1013]; // close codes: this client did something too much, or was ended by an operator
const LONG = 5; // failures for which a client over a limit waits

/**
 * Milliseconds in which a message may be sent again with its key. The server keeps a key for 5 minutes: after that it
 * would publish the message a second time. Half a minute less, because a request can be on its way for a while.
 */
const KEY_LIFETIME = 270_000;
const LEAST = 50; // milliseconds: with less time than this, a request is not begun
const LONGEST_TIMER = 2 ** 31 - 1; // milliseconds. A longer one fires at once.

/** Whether the server itself has said that this client has to stay away. */
export const isFinal = ({ status, code, explained }) => (
  [NO_CONTENT, UNAUTHORIZED].includes(status) || STAY_AWAY.includes(code) || (explained && FINAL.includes(status)));

/** Whether the reason is that there is no identity, or that it has ended: to log in again would help. */
export const isSessionOver = ({ status, code }) => status === UNAUTHORIZED || code === SESSION_OVER;

/** One connection on one transport. It begins where the client is, and keeps its own position. */
class Attempt extends Reader {
  isOpen = false;
  retry = undefined; // milliseconds that the server demands before the next connection
  /** Whether the server has answered a plain request in this attempt: then a failure is the transport's. */
  #isReachable = false;
  #client;
  #over;
  #openedAt;
  #open;

  constructor(client, rank, signal) {
    super(client.base, client.room);
    Object.assign(this, { id: client.id, cursor: client.cursor, rank });
    this.#client = client;
    this.#over = controllerWithin(signal);
    /** Resolves when it is open, or is over before it was. */
    this.settled = new Promise((resolve) => { this.#open = resolve; });
  }

  get transport() {
    return this.#client.order[this.rank];
  }

  get signal() {
    return this.#over.signal;
  }

  extra() {
    return this.#client.options.parameters?.() ?? {};
  }

  /** A WebSocket cannot send a header field, so it needs a ticket: one use, 30 s. */
  async permit(method, path) {
    const { key, ticket } = this.#client.options;
    if (ticket && method === 'GET') {
      return { parameters: { ticket: await this.#ticket(ticket(path)) } };
    }
    if (key && path === '/api/ws') {
      const content = { endpoint: path };
      const made = await this.ask('POST', '/api/ticket', {}, { content, signal: this.signal }).catch((error) => {
        if (error.status !== NOT_FOUND) {
          throw error;
        }
      });
      return made && { parameters: { ticket: made.ticket } };
    }
    return key ? { headers: { Authorization: `Bearer ${key}` } } : {};
  }

  /** The ticket of the application. It may ask another server, which may never answer. */
  async #ticket(promise) {
    const over = controllerWithin(this.signal);
    const end = () => over.abort(new Error('the ticket did not come in time'));
    const silence = new Silence(this.constructor.ANSWER, end);
    try {
      return await unlessAborted(over.signal, promise);
    } finally {
      silence.end();
      over.abort();
    }
  }

  /** Runs until the connection is over, and returns why. With `doubtful`, it asks first whether the server answers. */
  async run({ doubtful = false } = {}) {
    const { OPENING } = this.#client.constructor;
    let timer;
    try {
      if (this.cursor === undefined || doubtful) {
        await this.greet();
        this.#isReachable = true;
      }
      const late = () => this.isOpen || this.end(new Error(`nothing came within ${OPENING / 1000} s`));
      timer = setTimeout(late, OPENING);
      await TRANSPORTS[this.transport].read(this, this.signal);
      return Object.assign(new Error('the server ended the connection'), { isOrderly: true });
    } catch (error) {
      return Object.assign(error, { isOrderly: error.isOrderly ?? AWAY.includes(error.code) });
    } finally {
      clearTimeout(timer);
      this.#over.abort();
      this.#open(false);
    }
  }

  /** Takes the history, or everything after the position, by requests that are answered at once. */
  async greet() {
    const isNew = this.cursor === undefined;
    await (isNew ? this.begin(this.#client.options.history ?? 0, this.signal) : this.catchUp(this.signal));
    this.#client.moved(this);
  }

  end(reason) {
    this.#over.abort(reason);
  }

  stop() {
    this.end(Object.assign(new Error('the server says to stop polling'), { status: NO_CONTENT }));
  }

  opened() {
    if (!this.isOpen) {
      this.isOpen = true;
      this.#openedAt = Date.now();
      this.#open(true);
      this.#client.opened(this);
    }
  }

  /** Whether it worked: it was ended by the server, or was open for a while. */
  wasSteady({ isOrderly }) {
    return this.isOpen && (isOrderly || Date.now() - this.#openedAt > this.#client.constructor.STEADY);
  }

  /** Whether its failure is the transport's own: the server answers other requests, and did not refuse this one. */
  blames({ status, wait }) {
    return (this.#isReachable || this.isOpen) && wait === undefined && status !== 429 && status !== 503;
  }

  receive(message) {
    this.cursor = message.id;
    this.#client.receive(this, message);
  }

  take(answer, signal) {
    super.take(answer, signal);
    this.#client.moved(this);
  }

  missing() {
    this.#client.missing(this);
  }

  wire(what, text) {
    this.#client.wire(what, text);
  }
}

/** The client: `connect` makes it. */
export class Connection extends EventTarget {
  /** Failures to open a transport after which the next one is tried, while the server answers other requests. */
  static TRIES = 2;
  /** The same for a transport that has worked here: its failures are more probably the server's, in a deploy. */
  static TRIES_OF_KNOWN = 4;
  /** Milliseconds in which a transport has to bring its first bytes. A proxy that buffers keeps them. */
  static OPENING = 5_000;
  /** Milliseconds for which a connection has to be open to count as a success. */
  static STEADY = 5_000;
  /** Milliseconds before a better transport is tried again. They double with each failure. */
  static CLIMB = 60_000;
  static CLIMB_CAP = 1_800_000;
  /** Milliseconds in which a tab must hear of the one that reads for it. A hidden tab runs its timers once a minute. */
  static SHARED_SILENCE = 120_000;

  state = 'connecting';
  transport = undefined;
  cursor = undefined;
  /** Why it is closed, unless `close` was called. */
  error = undefined;

  #life = new AbortController(); // until it is closed
  #reading; // the AbortController of what `#start` began
  #rank = 0; // of the transport that is used, in `order`
  #worked = new Set(); // transports
  #current; // the attempt whose end matters
  #candidate; // an attempt with a better transport, beside the current one
  #seen; // ids of messages that both may bring
  #shown = {}; // the last state
  #tell; // to the other tabs, if this one reads for them
  #sent = Promise.resolve(); // settles with the last message
  #sender; // an attempt that makes the requests that send
  #told; // the last state of the tab that reads for this one
  #isFilling = false; // messages that another tab has missed to tell are asked for
  #isStale = false; // and there are more of them

  constructor(url, options = {}) {
    super();
    this.base = String(new URL('.', new URL(url, globalThis.location?.href)));
    this.options = options;
    this.room = options.room ?? 'general';
    this.id = options.id ?? uuid();
    this.cursor = options.after;
    this.order = (options.transports ?? Object.keys(TRANSPORTS)).filter((name) => {
      if (!TRANSPORTS[name]) {
        throw new TypeError(`transports: expected some of ${Object.keys(TRANSPORTS)}, not ${name}`);
      }
      return name !== 'websocket' || globalThis.WebSocket; // Node has it from version 22 on
    });
    this.#sender = new Attempt(this, 0, this.#life.signal);
    this.#watch();
    this.#start();
  }

  /**
   * Sends a text. Resolves with { id, timestamp } when the server has committed it. Rejects with the reason if the
   * server refuses it, if it is not answered within `timeout` milliseconds, or if the connection is closed. The reason
   * says at its end whether the message may still come, or is not sent: its turn did not come, or it was turned away.
   *
   * A request without an answer may have taken effect. It is repeated with the same key, by which the server knows it:
   * so it takes effect once. One message follows the other: a repeated one cannot overtake the next.
   */
  send(text, { sender = this.options.sender, timeout = 60_000 } = {}) {
    const content = { sender, text, room: this.room, key: uuid() };
    const sent = this.#post(content, timeout, this.#sent);
    this.#sent = Promise.allSettled([this.#sent, sent]).then(() => {});
    return sent;
  }

  /** Ends the connection for good. */
  close() {
    this.#end('the connection was closed');
  }

  /** The events `message` and `gap`, until the connection is closed. Throws if the server has refused it. */
  async *[Symbol.asyncIterator]() {
    const waiting = [];
    const over = new AbortController();
    let wake;
    for (const name of ['message', 'gap', 'state']) {
      this.addEventListener(name, (event) => {
        name === 'state' || waiting.push(event);
        wake?.();
      }, { signal: over.signal });
    }
    try {
      while (this.state !== 'closed' || waiting.length > 0) {
        yield* waiting.splice(0);
        await new Promise((resolve) => {
          wake = resolve;
          (waiting.length > 0 || this.state === 'closed') && resolve();
        });
      }
      if (this.error) {
        throw this.error;
      }
    } finally {
      over.abort();
    }
  }

  // What happens to the page.

  #watch() {
    const on = (name, act) => globalThis.addEventListener?.(name, act, { signal: this.#life.signal });
    // The old connection belongs to the old network. It may be dead, and would not say so for a while.
    on('online', () => this.#current?.end(Object.assign(new Error('the network has changed'), { isOrderly: true })));
    // The browser can keep a page that is left and show it again, but only a page without connections.
    on('pagehide', () => {
      this.#reading.abort();
      this.#show('waiting', 'the page is left');
    });
    on('pageshow', ({ persisted }) => persisted && this.#start());
  }

  #start() {
    this.#reading = controllerWithin(this.#life.signal);
    const { signal } = this.#reading;
    const canShare = globalThis.navigator?.locks && globalThis.BroadcastChannel;
    this.options.shared && canShare ? this.#share(signal) : this.#read(signal);
  }

  // What reads: one attempt after the other.

  async #read(signal) {
    let [failures, faults] = [0, 0]; // since the last success: all, and those of the transport alone
    this.#show('connecting', `${this.#title()}: connecting`);
    this.#current = this.#begin(this.#rank, signal);
    while (!signal.aborted) {
      const attempt = this.#current;
      const why = await attempt.done;
      if (signal.aborted || attempt !== this.#current) {
        continue; // it is over, or another attempt has taken the place of this one
      }
      if (isFinal(why)) {
        return this.#end(why.message, why);
      }
      if (attempt.wasSteady(why)) {
        [failures, faults] = [0, 0];
      } else {
        faults += attempt.blames(why);
      }
      const fell = this.#fallBack(faults, why);
      if (fell) {
        faults = 0;
      }
      if (!fell || this.#rank === 0) { // after the last one they begin again, without haste
        await this.#pause(attempt, why, failures, signal);
        failures += 1;
      }
      this.#current = signal.aborted ? undefined : this.#begin(this.#rank, signal, { doubtful: !attempt.isOpen });
    }
  }

  /** Goes to the next transport if this one has failed too often. */
  #fallBack(faults, why) {
    const { TRIES, TRIES_OF_KNOWN } = this.constructor;
    const from = this.#title();
    if (this.order.length === 1 || faults < (this.#worked.has(this.order[this.#rank]) ? TRIES_OF_KNOWN : TRIES)) {
      return false;
    }
    this.#rank = (this.#rank + 1) % this.order.length;
    this.#show('connecting', `${from} does not work here (${why.message}), ${this.#title()} is next`);
    return true;
  }

  /** Waits before the next attempt: a random time that grows with the failures, and at least what is demanded. */
  async #pause(attempt, why, failures, signal) {
    const demanded = why.wait ?? attempt.retry ?? 0;
    const wait = Math.max(demanded, backoff(OVER_LIMIT.includes(why.code) ? Math.max(failures, LONG) : failures));
    const what = attempt.isOpen ? 'the connection is lost' : 'could not be opened';
    const when = `next attempt in ${(wait / 1000).toFixed(1)} s`;
    this.#show('waiting', `${this.#title(attempt.transport)}: ${what} (${why.message}), ${when}`, wait);
    await sleep(wait, signal, wait === demanded);
    signal.aborted || this.#show('connecting', `${this.#title()}: connecting`);
  }

  #begin(rank, signal, options) {
    const attempt = new Attempt(this, rank, signal);
    attempt.done = attempt.run(options);
    return attempt;
  }

  /**
   * While a transport is used that is not the best, the better ones are tried from time to time, beside it: what made
   * them fail may be a network that was left. The first that opens takes over. Both begin after the same message and
   * bring the rest in the same order, so a message that was seen before is the other's, and is dropped.
   */
  async #climb(attempt) {
    const { CLIMB, CLIMB_CAP } = this.constructor;
    const { signal } = attempt;
    for (let wait = CLIMB; ; wait = Math.min(2 * wait, CLIMB_CAP)) {
      await sleep(wait * (0.5 + Math.random()), signal);
      for (let rank = 0; rank < attempt.rank; rank += 1) {
        if (signal.aborted || await this.#replace(attempt, rank)) {
          return;
        }
      }
    }
  }

  /** Opens a better transport. Returns whether it has taken the place of `attempt`. */
  async #replace(attempt, rank) {
    if (this.#candidate) {
      return false;
    }
    this.#seen = new Set();
    const candidate = this.#begin(rank, this.#reading.signal);
    this.#candidate = candidate;
    const isOpen = await candidate.settled;
    this.#candidate = undefined;
    if (!isOpen || attempt.signal.aborted) {
      candidate.end();
      return false;
    }
    [this.#current, this.#rank] = [candidate, rank];
    attempt.end();
    this.opened(candidate);
    return true;
  }

  // What an attempt calls.

  opened(attempt) {
    if (attempt === this.#current) {
      this.#worked.add(attempt.transport);
      this.#show('open', `${this.#title()}: open`);
      attempt.rank > 0 && this.#climb(attempt);
    }
  }

  receive(attempt, message) {
    if (this.#seen?.has(message.id)) {
      return;
    }
    if (this.#candidate) {
      this.#seen.add(message.id);
    } else {
      this.#seen = undefined; // one connection brings messages in order, so everything that follows is new
    }
    this.#tell?.({ after: this.cursor, message });
    this.#deliver(message);
  }

  #deliver(message) {
    this.cursor = message.id;
    this.#report('message', message);
  }

  /** The position of an attempt without a message. Of two attempts, only messages count. */
  moved({ cursor }) {
    if (!this.#candidate) {
      this.cursor = cursor;
      this.#report('place');
    }
  }

  missing(attempt) {
    const gap = { after: this.cursor };
    this.moved(attempt);
    this.#tell?.({ gap, cursor: this.cursor });
    this.#report('gap', gap);
  }

  /** For tools that count: what came or went that is no message. */
  wire(what, text) {
    what === 'heartbeat' && this.#tell?.({}); // this tab is alive
    this.#report('wire', { what, text });
  }

  // What sends.

  /** Sends a message in its turn. The time runs from now on: while it waits, and while the server is asked. */
  async #post(content, timeout, turn) {
    const late = new Error(`no answer within ${timeout / 1000} s`);
    const draft = { content, until: Date.now() + timeout, late, mayCome: false };
    const over = controllerWithin(this.#life.signal);
    const timer = setTimeout(() => over.abort(late), Math.min(timeout, LONGEST_TIMER));
    try {
      await unlessAborted(over.signal, turn);
      await unlessAborted(over.signal, this.#placed(over.signal));
      return await this.#askFor(draft, over.signal);
    } catch (error) {
      const fate = draft.mayCome ? 'the message may still come' : 'the message is not sent';
      throw Object.assign(new Error(`${error.message}; ${fate}`, { cause: error }), error);
    } finally {
      clearTimeout(timer);
      over.abort();
    }
  }

  /** Waits for the position of the room: a message that is sent before it is known would be taken for an old one. */
  async #placed(signal) {
    while (this.cursor === undefined && !signal.aborted) {
      await new Promise((resolve) => { this.addEventListener('place', resolve, { signal, once: true }); });
    }
  }

  /**
   * Makes the request, and repeats it while its time and the server's memory of the key last. A wait can be longer than
   * it should be, because a machine was suspended, so the clock is read before each request.
   */
  async #askFor(draft, signal) {
    const { content, until, late } = draft;
    const end = Math.min(until, Date.now() + KEY_LIFETIME) - LEAST;
    let reason = late;
    for (let failures = 0; Date.now() < end; failures += 1) {
      signal.throwIfAborted();
      try {
        const { message_id: id, timestamp } = await this.#sender.ask('POST', '/api/send', {}, { content, signal });
        return { id, timestamp };
      } catch (error) {
        const { status, wait: demanded = 0 } = error;
        reason = error;
        draft.mayCome ||= !(status < 500);
        const wait = Math.max(demanded, backoff(failures));
        if (signal.aborted || (status !== undefined && !PASSING.includes(status)) || Date.now() + wait > end) {
          break;
        }
        await sleep(wait, signal, wait === demanded);
      }
    }
    throw reason;
  }

  // One connection for all tabs of an origin. The tab that holds the lock reads, and tells the others. When it is gone,
  // the next tab in line gets the lock, and continues where it is. Each tab has its own position, and sends by itself.

  async #share(signal) {
    const name = `overwire ${this.base} ${this.room}`;
    while (!signal.aborted) {
      const turn = controllerWithin(signal);
      const [following, stealing] = [controllerWithin(turn.signal), controllerWithin(turn.signal)];
      const channel = new BroadcastChannel(name);
      const lead = async (lock) => {
        if (lock) {
          following.abort();
          await this.#lead(channel, turn.signal);
        }
      };
      // The request fails when the wait for the lock ends, or when the lock was stolen.
      const hold = (options) => navigator.locks.request(name, options, lead).catch(() => {});
      const goesOn = () => !following.signal.aborted;
      await hold({ ifAvailable: true });
      if (goesOn()) {
        this.#follow(channel, following.signal, () => stealing.abort());
        await hold({ signal: stealing.signal });
      }
      if (goesOn()) {
        await hold({ steal: true }); // its holder is frozen
      }
      turn.abort();
      channel.close();
    }
  }

  async #lead(channel, signal) {
    this.#tell = (data) => signal.aborted || channel.postMessage(data);
    channel.onmessage = ({ data: { isNew } }) => isNew && this.#tell({ shown: this.#shown });
    await this.#read(signal);
    this.#tell = undefined;
  }

  /** Hears what the leading tab tells. First asks for what was before; `steal` is called when it falls silent. */
  #follow(channel, signal, steal) {
    const silence = new Silence(this.constructor.SHARED_SILENCE, steal);
    signal.addEventListener('abort', () => silence.end());
    channel.onmessage = ({ data }) => {
      silence.heard();
      signal.aborted || this.#hear(data, signal);
    };
    this.#told = undefined;
    channel.postMessage({ isNew: true });
    this.#fill(signal);
  }

  /** Each message names the one before it. If that is another than the last one here, some are asked for. */
  #hear({ shown, after, message, gap, cursor }, signal) {
    if (shown) {
      this.#told = shown;
      this.#showTold();
    } else if (gap) {
      this.cursor = cursor;
      this.#report('gap', gap);
    } else if (message && (this.#isFilling || after !== this.cursor)) {
      message.id === this.cursor || this.#fill(signal);
    } else if (message) {
      this.#deliver(message);
    }
  }

  /** Asks for everything after the position, until nothing came meanwhile. */
  async #fill(signal) {
    this.#isStale = true;
    if (this.#isFilling) {
      return;
    }
    this.#isFilling = true;
    for (let failures = 0; this.#isStale && !signal.aborted; failures += 1) {
      this.#isStale = false;
      const reader = new Attempt(this, 0, signal);
      try {
        await reader.greet();
      } catch (error) {
        isFinal(error) && !signal.aborted && this.#end(error.message, error);
        this.#isStale = true;
        await sleep(backoff(failures), signal);
      }
      reader.end();
    }
    this.#isFilling = false;
    signal.aborted || this.#showTold();
  }

  // What it shows.

  /** The state of the leading tab is also this one's, when this one has all messages. */
  #showTold() {
    if (this.#told && !this.#isFilling && this.#told !== this.#shown) {
      this.#present(this.#told);
    }
  }

  #title(name = this.order[this.#rank]) {
    return TRANSPORTS[name].title;
  }

  #show(state, why, wait) {
    this.#present({ state, transport: this.order[this.#rank], why, wait });
  }

  #present(shown) {
    this.#shown = shown;
    ({ state: this.state, transport: this.transport } = shown);
    this.#tell?.({ shown });
    this.#report('state', shown);
  }

  #report(name, detail) {
    this.dispatchEvent(new CustomEvent(name, { detail }));
  }

  #end(why, error) {
    if (this.state !== 'closed') {
      this.error = error;
      this.#life.abort(error ?? new Error(why));
      this.#show('closed', why);
    }
  }
}

/** Connects to a room of the server at `url`. Everything else is in overwire.d.ts. */
export const connect = (url, options) => new Connection(url, options);
