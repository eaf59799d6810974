// The figures of the lanes since the last reset: the bytes from the tap, everything else from the lanes. No DOM. It
// dispatches the lanes' messages again, as `message` { label, id, text, own }.

import { Meter, difference } from './meter.js';

export const SECONDS = 60; // the seconds whose bytes are kept
const DELAYS = 1000; // the delays that are kept
const NUMBERS = { empty: 'empty', heartbeat: 'heartbeats', reconnection: 'reconnections' };

export class Figures extends EventTarget {
  /** How often bytes were missed: the tap was closed, or left some out. */
  gaps = 0;

  #meter = new Meter();
  #lanes = new Map();

  constructor(labels, tap, deliveries) {
    super();
    labels.forEach((label) => this.#lanes.set(label, { ...nothing(), state: 'stopped', rate: new Rate() }));
    for (const type of ['bytes', 'left_out']) {
      tap.addEventListener(type, ({ detail }) => this.#take(detail));
    }
    tap.addEventListener('lost', () => { this.gaps += 1; });
    deliveries.addEventListener('delivery', ({ detail: { label, delay } }) => {
      const delays = this.#lanes.get(label)?.delays;
      delays?.push(delay);
      delays?.splice(0, delays.length - DELAYS);
    });
  }

  watch(label, lane) {
    const row = this.#lanes.get(label);
    if (!row) {
      return;
    }
    row.lane = lane;
    row.state = lane.state ?? 'stopped';
    lane.addEventListener('state', ({ detail }) => {
      row.state = row.lane === lane ? detail.state : row.state; // a replaced lane can stop late
    });
    lane.addEventListener('wire', ({ detail: { what } }) => {
      if (what in NUMBERS) {
        row[NUMBERS[what]] += 1;
      }
    });
    lane.addEventListener('message', ({ detail: { id, text, own } }) => {
      row.messages += own ? 0 : 1; // its own messages did not come over the wire
      this.dispatchEvent(new CustomEvent('message', { detail: { label, id, text, own } }));
    });
  }

  get labels() {
    return [...this.#lanes.keys()];
  }

  get running() {
    return this.labels.filter((label) => this.#lanes.get(label).state !== 'stopped');
  }

  get leftOut() {
    return this.#meter.leftOut;
  }

  /** The figures of a lane: { state, messages, empty, heartbeats, reconnections, delays, requests, up, down }. */
  of(label) {
    const { state, messages, empty, heartbeats, reconnections, delays } = this.#lanes.get(label);
    return { state, messages, empty, heartbeats, reconnections, delays: [...delays], ...this.#meter.of(label) };
  }

  all() {
    return new Map(this.labels.map((label) => [label, this.of(label)]));
  }

  /** The bytes of each second, up and down together, the oldest first. */
  rate(label) {
    return this.#lanes.get(label).rate.values();
  }

  reset() {
    this.#meter.reset();
    this.gaps = 0;
    this.#lanes.forEach((row) => Object.assign(row, nothing(), { rate: new Rate() }));
  }

  #take(event) {
    const bytes = this.#meter.take(event);
    if (bytes > 0) {
      this.#lanes.get(event.label)?.rate.add(bytes);
    }
    if (event.type === 'left_out') {
      this.gaps += 1;
    }
  }
}

/** The difference between two readings of one lane. */
export function added(before, after) {
  const counts = ['messages', 'empty', 'heartbeats', 'reconnections'].map((key) => [key, after[key] - before[key]]);
  return { ...Object.fromEntries(counts), ...difference(before, after) };
}

const nothing = () => ({ messages: 0, empty: 0, heartbeats: 0, reconnections: 0, delays: [] });

/** The bytes of each second. */
class Rate {
  #bytes = new Array(SECONDS).fill(0);
  #second = now();

  add(bytes) {
    this.#advance();
    this.#bytes[this.#second % SECONDS] += bytes;
  }

  values() {
    this.#advance();
    return this.#bytes.map((_, at) => this.#bytes[(this.#second + 1 + at) % SECONDS]);
  }

  #advance() {
    const second = now();
    for (let passed = Math.max(this.#second, second - SECONDS) + 1; passed <= second; passed += 1) {
      this.#bytes[passed % SECONDS] = 0;
    }
    this.#second = second;
  }
}

function now() {
  return Math.floor(performance.now() / 1000);
}
