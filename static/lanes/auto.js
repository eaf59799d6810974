// Auto: the client of overwire.js, as an application uses it, in the form of a lane. It says which transport the client
// has chosen, and why.

import { connect, isSessionOver } from '../overwire.js';
import { HISTORY, newId } from './lane.js';
import { urlOf } from './urls.js';

const HELD = ['sse', 'stream', 'long-poll']; // transports that hold one of the browser's six connections

const MISSING = 'Messages are missing: the server no longer had everything since the last one.';

export class Auto extends EventTarget {
  static lane = 'auto';
  static title = 'Auto';
  static how = 'overwire.js';
  static about = 'One import for an application. It begins with WebSocket, falls back to what passes here, climbs back, '
    + 'and says why.';

  id = newId();
  cursor = undefined;
  state = 'stopped';
  #ready;
  #client = undefined; // the client of overwire.js, while it is started
  #wasOpen = false;

  constructor({ room = 'general', tap, ready = async () => {} } = {}) {
    super();
    this.room = room;
    this.tap = tap;
    this.#ready = ready;
  }

  /** Whether it holds one of the browser's six HTTP/1.1 connections now. */
  get holds() {
    return HELD.includes(this.#client?.transport) && this.state !== 'waiting';
  }

  async start() {
    if (this.state !== 'stopped') {
      return;
    }
    this.#show('connecting');
    await this.#ready();
    if (this.state === 'stopped' || this.#client) {
      return; // stopped meanwhile, or started by another call
    }
    const parameters = () => (this.tap === undefined ? {} : { tap: this.tap });
    const options = { room: this.room, id: this.id, after: this.cursor, history: HISTORY, parameters };
    const client = connect(urlOf('/'), options);
    this.#client = client;
    this.#wasOpen = false;
    const on = (name, act) => client.addEventListener(name, ({ detail }) => client === this.#client && act(detail));
    on('state', (detail) => this.#change(detail));
    on('wire', (detail) => this.#report('wire', detail));
    on('gap', () => this.#report('notice', MISSING));
    on('message', (message) => {
      this.cursor = message.id;
      this.#report('message', message);
    });
  }

  /** `text` says why, if it is not the user's wish. */
  stop(text = 'stopped') {
    const client = this.#client;
    this.#client = undefined;
    client?.close();
    this.cursor = client?.cursor ?? this.cursor;
    this.#show('stopped', text);
  }

  async send(sender, text) {
    if (!this.#client) {
      throw new Error('the lane is stopped');
    }
    return (await this.#client.send(text, { sender })).id;
  }

  #change({ state, transport, why, wait }) {
    if (state === 'open') {
      this.#report('note', why);
      this.#wasOpen && this.#report('wire', { what: 'reconnection', text: 'connected again' });
      this.#wasOpen = true;
      this.#show('open', `open: ${transport}`);
    } else if (state === 'waiting') {
      this.#report('problem', why);
      this.#show('waiting', wait === undefined ? why : `waiting to retry in ${(wait / 1000).toFixed(1)} s`, wait);
    } else if (state === 'closed') {
      const { error } = this.#client;
      this.#report('problem', why);
      this.stop(isSessionOver(error) ? 'session over' : 'refused');
      this.#report('refused', error);
    } else {
      / is next$/.test(why) && this.#report('problem', why);
      this.#show('connecting');
    }
  }

  #show(state, text = state, wait = undefined) {
    this.state = state;
    this.#report('state', { state, text, wait });
  }

  #report(name, detail) {
    this.dispatchEvent(new CustomEvent(name, { detail }));
  }
}
