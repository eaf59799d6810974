// What is kept of all that the tap and the lanes tell. Says `kept` for each record, `gone` for each that had to go for
// it, and `change` when there is something new to show.

import { message, Reader, remark } from './records.js';
import { Store } from './store.js';

const PEERS = 'A data channel is encrypted and goes from browser to browser: no server sees its bytes, and no page '
  + 'either. These are its messages, as the lane tells them.';
const AGAIN = 'The tap is open again. It shows the requests that begin from now on.';

const now = () => Date.now() / 1000;

export class Recording extends EventTarget {
  /** The time of the first record. */
  base = undefined;

  #reader = new Reader();
  #store = new Store();
  #waiting = undefined; // while paused: a store of what came meanwhile
  #hasToldPeers = false;
  #wasLost = false;
  #watched = new Map(); // label to lane

  constructor(tap) {
    super();
    for (const type of ['bytes', 'end', 'left_out', 'struck']) {
      tap.addEventListener(type, ({ detail }) => this.#take(this.#reader.read(detail)));
    }
    tap.addEventListener('lost', () => this.#lose());
    tap.addEventListener('open', () => this.#find());
  }

  get records() {
    return this.#store.records;
  }

  /** How much is kept, how much had to go, and how much waits; that is undefined unless it is paused. */
  get amount() {
    const { records, bytes, dropped } = this.#store;
    return { records: records.length, bytes, dropped,
      waiting: this.#waiting && this.#waiting.records.length + this.#waiting.dropped };
  }

  /** Listens to what a lane tells of a transport that passes no server; the lane before it is forgotten. */
  watch(label, lane) {
    this.#watched.set(label, lane);
    lane.addEventListener('wire', ({ detail: { what, text } }) => {
      if (this.#watched.get(label) !== lane || !['sent', 'received'].includes(what)) {
        return;
      }
      if (!this.#hasToldPeers) {
        this.#hasToldPeers = true;
        this.#take(remark({ type: 'note', label, time: now() }, PEERS));
      }
      this.#take(message({ what, label, text, time: now() }));
    });
  }

  /** Pauses, or goes on with all that came meanwhile; returns whether it is paused now. */
  pause() {
    const waiting = this.#waiting;
    this.#waiting = waiting ? undefined : new Store();
    this.#store.dropped += waiting?.dropped ?? 0;
    waiting?.records.forEach((record) => this.#keep(record));
    this.#say('change');
    return waiting === undefined;
  }

  clear() {
    this.#store = new Store();
    if (this.#waiting) {
      this.#waiting = new Store();
    }
    this.base = undefined;
    this.#hasToldPeers = false;
    this.#say('change');
  }

  #lose() {
    this.#wasLost = true;
    this.#take(remark({ type: 'lost', time: now() }, 'The tap is closed: what passes now is not seen.'));
  }

  #find() {
    if (this.#wasLost) {
      this.#reader = new Reader();
      this.#take(remark({ type: 'found', time: now() }, AGAIN));
    }
    this.#wasLost = false;
  }

  #take(record) {
    if (record === undefined) {
      return;
    }
    record.time ??= now();
    if (this.#waiting) {
      this.#waiting.add(record);
    } else {
      this.#keep(record);
    }
    this.#say('change');
  }

  #keep(record) {
    this.base ??= record.time;
    const gone = this.#store.add(record);
    this.#say('kept', record);
    gone.forEach((one) => this.#say('gone', one));
  }

  #say(type, detail) {
    this.dispatchEvent(new CustomEvent(type, { detail }));
  }
}
