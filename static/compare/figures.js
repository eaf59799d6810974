// What the lanes have cost and brought since the last reset: the bytes from the tap, all else from the lanes. No DOM.
// Re-dispatches the lanes' messages as `message` { label, id, text }.

import { Meter, difference } from './meter.js';

export const SECONDS = 60; // of bytes per second that are kept
const DELAYS = 1000; // that are kept
const COUNTED = { empty: 'empty', heartbeat: 'heartbeats', reconnection: 'reconnections' };

export class Figures extends EventTarget {
  /** How often bytes were missed: the tap was closed, or had to leave some out. */
  gaps = 0;

  #meter = new Meter();
  #lanes = new Map();

  constructor(labels, tap, deliveries) {
    super();
    labels.forEach((label) => this.#lanes.set(label, { ...nothing(), state: 'stopped', rate: new Rate() }));
    for (const type of ['bytes', 'end', 'left_out']) {
      tap.addEventListener(type, ({ detail }) => this.#take(detail));
    }
    for (const type of ['open', 'lost']) {
      tap.addEventListener(type, () => this.#meter.interrupted());
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
      row.state = row.lane === lane ? detail.state : row.state; // one that was replaced may stop late
    });
    lane.addEventListener('wire', ({ detail: { what } }) => {
      if (what in COUNTED) {
        row[COUNTED[what]] += 1;
      }
    });
    lane.addEventListener('message', ({ detail: { id, text, own } }) => {
      row.messages += own ? 0 : 1; // what it sent itself did not come over the wire
      this.dispatchEvent(new CustomEvent('message', { detail: { label, id, text } }));
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

  /** { state, messages, empty, heartbeats, reconnections, delays, requests, up, down } of a lane until now. */
  of(label) {
    const { state, messages, empty, heartbeats, reconnections, delays } = this.#lanes.get(label);
    return { state, messages, empty, heartbeats, reconnections, delays: [...delays], ...this.#meter.of(label) };
  }

  all() {
    return new Map(this.labels.map((label) => [label, this.of(label)]));
  }

  /** Bytes per second, up and down together, the oldest first. */
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

/** What was added to one lane between two readings. */
export function added(before, after) {
  const counts = ['messages', 'empty', 'heartbeats', 'reconnections'].map((key) => [key, after[key] - before[key]]);
  return { ...Object.fromEntries(counts), ...difference(before, after) };
}

const nothing = () => ({ messages: 0, empty: 0, heartbeats: 0, reconnections: 0, delays: [] });

/** Bytes by the second of their arrival. */
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
