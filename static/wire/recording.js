// The records of the events of the tap and of the lanes, as far as they are kept. The events are `kept`, with a new
// record; `gone`, with a record that had to go for it; and `change`, when there is something new to show.

import { countOf } from './bytes.js';
import { Idle } from './idle.js';
import { peerMessage, Reader, remark } from './records.js';
import { Store } from './store.js';

const PEERS = 'A data channel is encrypted and goes from browser to browser: no server sees its bytes, and no page '
  + 'either. These are its messages, as the lane reports them.';
const AGAIN = 'The tap is open again. It shows the requests that begin from now on.';

/** What is said of exchanges that are under way when the page opens the tap. */
const unreached = (number) => `${countOf(number, 'exchange')} began before this page: not shown here, and reached by no `
  + 'fault but Server down.';

const now = () => Date.now() / 1000; // in seconds, like the tap's

export class Recording extends EventTarget {
  /** The time of the first record. */
  base = undefined;

  #reader = new Reader();
  #idle = new Idle();
  #store = new Store();
  #waiting = undefined; // while paused: a store of the new records
  #hasToldPeers = false;
  #wasLost = false;
  #watched = new Map(); // label to lane
  #told = undefined; // the time of the tap's last event
  #ahead = Infinity; // seconds by which this clock is ahead of the tap's, and what an event takes to come here

  constructor(tap) {
    super();
    for (const type of ['bytes', 'end', 'left_out', 'struck']) {
      tap.addEventListener(type, ({ detail }) => {
        this.#compareClocks(detail);
        this.#take(this.#reader.read(detail));
      });
    }
    tap.addEventListener('lost', () => this.#lose());
    tap.addEventListener('open', ({ detail }) => this.#find(detail));
  }

  get records() {
    return this.#store.records;
  }

  /** The numbers of records and bytes that are kept, that were dropped, and that wait; undefined unless paused. */
  get amount() {
    const { records, bytes, dropped } = this.#store;
    return { records: records.length, bytes, dropped,
      waiting: this.#waiting && this.#waiting.records.length + this.#waiting.dropped };
  }

  /** Listens to the messages that a lane sends past the server. It replaces the former lane with this label. */
  watch(label, lane) {
    this.#watched.set(label, lane);
    lane.addEventListener('wire', ({ detail: { what, text } }) => {
      if (this.#watched.get(label) !== lane || !['sent', 'received'].includes(what)) {
        return;
      }
      const time = this.#now();
      if (!this.#hasToldPeers) {
        this.#hasToldPeers = true;
        this.#take(remark({ type: 'note', label, time }, PEERS));
      }
      this.#take(peerMessage({ what, label, text, time }));
    });
  }

  /** Pauses, or takes in the records that wait. Returns whether it is paused now. */
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

  #compareClocks({ time }) {
    if (time !== undefined) {
      this.#told = time;
      this.#ahead = Math.min(this.#ahead, now() - time);
    }
  }

  /** The time by the tap's clock: the events of the tap come later than what the page notes itself. */
  #now() {
    return now() - (this.#ahead === Infinity ? 0 : this.#ahead);
  }

  #lose() {
    this.#wasLost = true;
    this.#take(remark({ type: 'lost', time: this.#now() }, 'The tap is closed: bytes are not shown until it is open again.'));
  }

  #find({ unseen = 0 }) {
    if (this.#wasLost) {
      this.#reader = new Reader();
      this.#take(remark({ type: 'found', time: this.#now() }, AGAIN));
    }
    if (unseen > 0) {
      this.#take(remark({ type: 'unseen', time: this.#now() }, unreached(unseen)));
    }
    this.#wasLost = false;
  }

  #take(record) {
    if (record === undefined) {
      return;
    }
    this.#idle.take(record);
    record.time ??= this.#told ?? this.#now(); // an event of the tap without a time belongs after the last one
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
