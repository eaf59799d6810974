// What every lane does, whatever its transport: begin, go on after a failure, resume, stop.
//
// A lane reports by events, with the data in `detail`:
//
//   message  { id, sender, text, timestamp, room }, and `own` if it did not come: WebRTC shows what it sends
//   state    { state, text }: one of the states below, and the text to show
//   id       the lane's id, when it becomes known or changes
//   wire     { what, text }: 'request', 'empty', 'heartbeat', 'reconnection', 'sent' or 'received'
//   notice   a text: messages are missing
//   problem  a text: what went wrong
//
// The states are 'stopped', 'connecting', 'open', 'holding' (open, and waiting for an answer or a peer) and 'waiting'.

import { request, whole } from '/lanes/http.js';
import { Once } from '/lanes/once.js';
import { uuid } from '/lanes/uuid.js';
import { backoff, sleep } from '/lanes/waiting.js';

const HISTORY = 50; // messages for those who come late

/** Behind the last full stop of an id stands who it is: the lanes of one page are one person. */
const PERSON = uuid().slice(0, 8);

export class Lane extends EventTarget {
  /** Milliseconds without a byte after which a connection is dead. The server sends something every 15 s. */
  static SILENCE = 20_000;
  /** The same for a request that is answered at once. */
  static ANSWER = 10_000;
  /** Whether it holds one of the browser's six HTTP/1.1 connections to one host while it runs. */
  static holds = false;

  /** Names this lane to the server, on each of its connections: GET /api/stats counts it, DELETE /api/client/{id} ends it. */
  id = `${uuid().slice(0, 8)}.${PERSON}`;
  /** The id of the last message received. Whatever the transport, it goes on behind this. */
  cursor = undefined;
  state = 'stopped';
  #shown = 'stopped';
  #running = undefined; // the AbortController of what `start` began
  #failures = 0; // since the last success
  #lost = false; // a connection that had been open, and there is no new one yet
  #ready;
  #once = new Once();

  /**
   * `tap`, if given, has the server show the bytes of all requests of this lane under that name. Each attempt to
   * connect waits for `ready`: a request that begins before anybody looks is not shown, however long its answer is.
   */
  constructor({ room = 'general', tap, ready = async () => {} } = {}) {
    super();
    this.room = room;
    this.tap = tap;
    this.#ready = ready;
  }

  /**
   * To be written by each lane: connects, says `this.opened()`, hands over what comes, and returns or
   * throws when the connection is over. Must end when `signal` aborts, which it does too once this has
   * returned: what is to be cleared up in any case can wait for that.
   */
  async connect(signal) {
    throw new Error('not implemented');
  }

  async start() {
    if (this.#running) {
      return;
    }
    this.#running = new AbortController();
    this.#failures = 0;
    const { signal } = this.#running;
    addEventListener('pagehide', () => this.#freeze(), { signal });
    while (!signal.aborted) {
      this.show('connecting');
      const end = await this.#attempt(signal);
      if (signal.aborted) {
        return;
      }
      this.#lost ||= this.isOpen;
      const wait = backoff(this.#failures);
      this.#failures += 1;
      this.report('problem', end);
      this.show('waiting', `waiting to retry in ${(wait / 1000).toFixed(1)} s`);
      await sleep(wait, signal);
    }
  }

  /** One connection, from its beginning to its end. Returns why it ended. */
  async #attempt(running) {
    const over = new AbortController();
    const signal = AbortSignal.any([running, over.signal]);
    try {
      await this.#ready();
      signal.throwIfAborted();
      await this.join(signal);
      signal.throwIfAborted();
      await this.connect(signal);
      return 'the server ended the connection';
    } catch (error) {
      return error.message;
    } finally {
      over.abort();
    }
  }

  stop() {
    if (this.#running) {
      this.#running.abort();
      this.#running = undefined;
      this.show('stopped');
    }
  }

  /** A page that is left may be kept, and shown again: only if it has no connections. */
  #freeze() {
    this.stop();
    addEventListener('pageshow', ({ persisted }) => persisted && this.start(), { once: true });
  }

  /** Before each connection, and only once of use: what those who come late have missed, and where the room stands. */
  async join(signal) {
    if (this.cursor !== undefined) {
      return;
    }
    const parameters = { room: this.room, limit: HISTORY };
    const { messages } = await this.ask('GET', '/api/history', parameters, { signal });
    this.receiveAll(messages, signal);
    if (messages.length === 0) {
      this.take(await this.ask('GET', '/api/messages', this.position(), { signal }), signal);
    }
  }

  /** Most transports lead only from the server to the client; the other direction is a POST. */
  async send(sender, text) {
    return (await this.post('/api/send', { sender, text, room: this.room })).message_id;
  }

  /** Says something by a POST, which arrives once, though it may be asked for twice. */
  post(path, content) {
    return this.#once.say(content, (keyed) => this.ask('POST', path, {}, { content: keyed }));
  }

  get isOpen() {
    return this.state === 'open' || this.state === 'holding';
  }

  opened(state = 'open', text = state) {
    this.#failures = 0;
    this.show(state, text);
    if (this.#lost) {
      this.#lost = false;
      this.wire('reconnection', 'connected again');
    }
  }

  /** The connection was lost, and what reconnects it is not the loop in `start`. */
  interrupted(text) {
    this.#lost ||= this.isOpen;
    this.report('problem', text);
    this.show('connecting');
  }

  receive(message) {
    this.cursor = message.id;
    this.report('message', message);
  }

  /** Whoever is told of a message may stop this lane: what follows is then for its next start. */
  receiveAll(messages, signal) {
    for (const message of messages) {
      signal.throwIfAborted();
      this.receive(message);
    }
  }

  /** The answer to a poll. It names the newest message also when it brings none. */
  take({ messages, recovered, last_message_id }, signal) {
    if (recovered === false) {
      this.missing();
    }
    if (messages.length === 0) {
      this.wire('empty', 'nothing new');
    }
    this.receiveAll(messages, signal);
    signal.throwIfAborted();
    this.cursor = last_message_id;
  }

  /** One JSON value from a stream or a socket: a message, a notice, a heartbeat or an error. */
  receiveValue(value) {
    if (value.type === 'notice') {
      this.cursor = value.last_message_id; // ours was too old, or of a server that is gone
      this.missing();
    } else if (value.type === 'heartbeat') {
      this.wire('heartbeat', 'heartbeat');
    } else if (value.type === 'error') {
      this.report('problem', value.error);
    } else {
      this.receive(value);
    }
  }

  missing(text = 'Messages are missing: the server no longer had everything since the last one.') {
    this.report('notice', text);
  }

  /** The parameters that say who asks, of which room, and behind which message it goes on. */
  position(cursorName = 'last_message_id') {
    const cursor = this.cursor === undefined ? {} : { [cursorName]: this.cursor };
    return { room: this.room, client_id: this.id, ...cursor };
  }

  url(path, parameters = {}) {
    const query = new URLSearchParams(this.tap === undefined ? parameters : { ...parameters, tap: this.tap });
    return `${path}?${query}`;
  }

  /** Makes a request whose answer is read as it comes. */
  request(method, path, parameters, options) {
    this.wire('request', `${method} ${path}`);
    return request(this.url(path, parameters), { method, ...options });
  }

  /** Makes a request and returns the JSON of the answer. */
  async ask(method, path, parameters, { content, limit = Lane.ANSWER, signal } = {}) {
    const json = { headers: { 'Content-Type': 'application/json' }, body: JSON.stringify(content) };
    const options = { limit, signal, ...(content && json) };
    return JSON.parse(await whole(this.request(method, path, parameters, options)));
  }

  identify(id) {
    if (this.id !== id) {
      this.id = id;
      this.report('id', id);
    }
  }

  show(state, text = state) {
    if (this.state !== state || this.#shown !== text) {
      [this.state, this.#shown] = [state, text];
      this.report('state', { state, text });
    }
  }

  wire(what, text) {
    this.report('wire', { what, text });
  }

  report(name, detail) {
    this.dispatchEvent(new CustomEvent(name, { detail }));
  }
}
