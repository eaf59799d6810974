// What every lane does, whatever its transport: start, connect, retry after a failure, resume, stop.
//
// A lane is a subclass of `Lane`. It writes these members, and overrides no others:
//
//   static lane, title, how, about   its label, its title, its endpoint, a sentence on how it works
//   static holds, SILENCE, ANSWER    its limits, see below; every lane reads a static as `this.constructor.NAME`
//   id                               `undefined` at first, if the server names the lane
//   connect(signal)                  one connection, from the first request to the end; each lane has to write it
//   join(signal, isDoubtful)         what is asked before each connection
//   send(sender, text)               sends a message; resolves with the message's id
//   stopped()                        cleans up after `stop`
//   describe(state, text)            the state and the text that are shown for a state
//
// Its position, its requests and what it does with answers are those of every reader (`Reader` in overwire.js).
//
// The page calls `start`, `stop` and `send`. It reads the statics and `id`, `state`, `room`, `holds`. It sets `tap` and
// listens to the events of the lane. The rest is for the lanes to call.
//
// A lane reports by events, with the data in `detail`:
//
//   message  { id, sender, text, timestamp, room }, and `own` if the lane sent it itself and it did not come back
//   state    { state, text, wait }: one of the states below, the text to show, and for `waiting` the milliseconds
//   id       the lane's id, when it becomes known or changes
//   wire     { what, text }: 'request', 'empty', 'heartbeat', 'reconnection', 'sent' or 'received'
//   notice   a text: messages are missing
//   problem  a text: what went wrong
//   refused  the error by which the server has said that this lane has to stay away; the lane is stopped
//
// The states are 'stopped', 'connecting', 'open', 'holding' (open, and waiting for an answer or a peer) and 'waiting'.

import { Reader, backoff, controllerWithin, isFinal, isSessionOver, sleep, uuid } from '../overwire.js';
import { Once } from './once.js';
import { urlOf } from './urls.js';

export const HISTORY = 50; // messages that a newcomer gets

const NO_HANDSHAKE = 1006; // close code

/** The part of an id after its last full stop names the person: the lanes of one page are one person. */
const PERSON = uuid().slice(0, 8);

/** A new id of a lane. */
export const newId = () => `${uuid().slice(0, 8)}.${PERSON}`;

export class Lane extends Reader {
  /** Whether it holds one of the browser's six HTTP/1.1 connections to one host while it is connected. */
  static holds = false;

  id = newId();
  state = 'stopped';
  #isLeftToBrowser = false; // the connection is lost, and the browser decides when it asks again
  #shown = 'stopped'; // the text
  #reported = ['stopped', 'stopped']; // the last arguments of `show`
  #running = undefined; // the AbortController of what `start` began
  #failures = 0; // since the last success
  #lost = false; // a connection that had been open is lost, and there is no new one yet
  #ready;
  #once = new Once();

  /**
   * With `tap`, the tap shows the bytes of all requests of this lane under that name. Each attempt to connect waits for
   * `ready`: a request that begins before the tap is open is never shown, however long its answer lasts.
   */
  constructor({ room = 'general', tap, ready = async () => {} } = {}) {
    super(urlOf('/'), room);
    this.tap = tap;
    this.#ready = ready;
  }

  // What a lane writes.

  /**
   * Connects, calls `this.opened()`, hands over what arrives, and returns or throws when the connection is over. It
   * must end when `signal` aborts. `signal` aborts also after this has returned, so a lane can clean up there.
   */
  async connect() {
    throw new Error('a lane has to write `connect`');
  }

  /**
   * Asks for the history and for the position of the room, unless the lane has a position already. `isDoubtful` is
   * true if the last attempt failed for a reason that is not known: a WebSocket and an `EventSource` hide the status.
   * A plain request shows it, so then there has to be one.
   */
  async join(signal, isDoubtful) {
    if (this.cursor === undefined) {
      await this.begin(HISTORY, signal);
    } else if (isDoubtful) {
      await this.catchUp(signal);
    }
  }

  /** Most transports lead only from the server to the client. Their other direction is a POST. */
  async send(sender, text) {
    return (await this.post('/api/send', { sender, text, room: this.room })).message_id;
  }

  stopped() {}

  describe(state, text) {
    return { state, text };
  }

  // What the page calls.

  async start() {
    if (this.#running) {
      return;
    }
    this.#running = new AbortController();
    this.#failures = 0;
    const { signal } = this.#running;
    addEventListener('pagehide', () => this.#freeze(), { signal });
    let isDoubtful = false;
    while (!signal.aborted) {
      this.#isLeftToBrowser = false;
      this.show('connecting');
      const why = await this.#attempt(signal, isDoubtful);
      if (signal.aborted) {
        return;
      }
      this.report('problem', this.#words(why));
      if (isFinal(why)) {
        return this.#refuse(why);
      }
      isDoubtful = !this.isOpen && why.status === undefined;
      this.#lost ||= this.isOpen;
      const wait = backoff(this.#failures);
      this.#failures += 1;
      this.show('waiting', `waiting to retry in ${(wait / 1000).toFixed(1)} s`, wait);
      await sleep(wait, signal);
    }
  }

  /** Whether it holds one of the six connections now. A lane that waits before its next attempt holds none. */
  get holds() {
    const isAsking = this.state === 'connecting' && !this.#isLeftToBrowser;
    return this.constructor.holds && (this.isOpen || isAsking);
  }

  /** `text` says why, if it is not the user's wish. */
  stop(text = 'stopped') {
    if (this.#running) {
      this.#running.abort();
      this.#running = undefined;
      this.show('stopped', text);
    }
    this.stopped();
  }

  /** The code 1006 says only that there was no closing handshake: what other transports say by their error. */
  #words({ code, message }) {
    const what = this.isOpen ? 'the connection was lost' : 'the connection could not be opened';
    return code === NO_HANDSHAKE ? `${what}: ${message}` : message;
  }

  #refuse(why) {
    this.stop(isSessionOver(why) ? 'session over' : 'refused');
    this.report('refused', why);
  }

  /** Makes one connection. Returns why it ended. */
  async #attempt(running, isDoubtful) {
    const over = controllerWithin(running);
    const { signal } = over;
    try {
      await this.#ready();
      signal.throwIfAborted();
      await this.join(signal, isDoubtful);
      signal.throwIfAborted();
      await this.connect(signal);
      return new Error('the server ended the connection');
    } catch (error) {
      return error;
    } finally {
      over.abort();
    }
  }

  /** The browser can keep a page that is left and show it again, but only a page without connections. */
  #freeze() {
    this.stop();
    addEventListener('pageshow', ({ persisted }) => persisted && this.start(), { once: true });
  }

  // What a lane calls: requests.

  extra() {
    return this.tap === undefined ? {} : { tap: this.tap };
  }

  /** Asks who this is: a plain request, for a lane that reads no room. */
  async askWho(signal) {
    await this.ask('GET', '/api/session', {}, { signal });
  }

  /** Sends `content` by a POST that takes effect once, even if it is made twice. */
  post(path, content) {
    return this.#once.say(content, (keyed) => this.ask('POST', path, {}, { content: keyed }));
  }

  // What a lane calls: its state.

  get isOpen() {
    return this.state === 'open' || this.state === 'holding';
  }

  opened(state = 'open', text = state) {
    this.#failures = 0;
    this.#isLeftToBrowser = false;
    this.show(state, text);
    if (this.#lost) {
      this.#lost = false;
      this.wire('reconnection', 'connected again');
    }
  }

  /** The connection is lost, and something else than `start` reconnects it. */
  interrupted(text) {
    this.#lost ||= this.isOpen;
    this.#isLeftToBrowser = true;
    this.report('problem', text);
    this.show('connecting');
  }

  identify(id) {
    if (this.id !== id) {
      this.id = id;
      this.report('id', id);
    }
  }

  /** Shows a state, as `describe` describes it. Without arguments: the last state again. */
  show(...reported) {
    if (reported.length > 0) {
      this.#reported = reported;
    }
    const [given, words = given, wait] = this.#reported;
    const { state, text } = this.describe(given, words);
    if (this.state !== state || this.#shown !== text) {
      [this.state, this.#shown] = [state, text];
      this.report('state', { state, text, ...(state === 'waiting' && { wait }) });
    }
  }
}
