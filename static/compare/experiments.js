// Two experiments with the running lanes: a minute in which nobody publishes, and a hundred messages at once. No DOM.
// An experiment ends early when its signal aborts, and then returns nothing.

import { added } from './figures.js';

export const QUIET = 60; // seconds
export const BURST = 100; // messages
const PATIENCE = 10_000; // milliseconds without an arrival that end the wait for the rest
const TAP_LAG = 500; // milliseconds: the tap's connection brings the bytes a moment later

/** The cost of each lane while nobody publishes. `tick(seconds)` is called with the seconds that are left. */
export async function silence(figures, signal, tick) {
  const [before, begin, gaps] = [figures.all(), performance.now(), figures.gaps];
  const published = new Set();
  const running = new Set(figures.running);
  const heard = ({ detail: { id } }) => published.add(id);
  figures.addEventListener('message', heard);
  for (let left = QUIET; left > 0 && !signal.aborted; left = QUIET - (performance.now() - begin) / 1000) {
    figures.running.forEach((label) => running.add(label));
    tick(Math.ceil(left));
    await pause(Math.min(1000, left * 1000), signal);
  }
  figures.removeEventListener('message', heard);
  const lanes = [...running].map((label) => ({ label, ...added(before.get(label), figures.of(label)) }));
  return signal.aborted ? undefined : {
    lanes, seconds: (performance.now() - begin) / 1000, published: published.size, isAtLeast: figures.gaps !== gaps,
  };
}

/** Publishes messages as fast as they are accepted. `tick(text)` is called with the progress. */
export async function burst(figures, deliveries, publish, signal, tick) {
  const name = `burst ${crypto.getRandomValues(new Uint32Array(1))[0].toString(16)}`;
  const before = figures.all();
  const gaps = figures.gaps;
  const arrivals = new Arrivals(figures, deliveries, name);
  let accepted = 0;
  let problem;
  const stopped = new Promise((resolve) => { signal.addEventListener('abort', resolve); });
  for (let number = 1; number <= BURST && !signal.aborted; number += 1) {
    tick(`published ${number - 1} of ${BURST}`);
    try {
      await Promise.race([publish(`${name}, ${number} of ${BURST}`), stopped]); // `publish` can take long
      accepted += 1;
    } catch (error) {
      problem = error.message;
    }
  }
  while (!signal.aborted && arrivals.isWaiting(accepted)) {
    tick(`waiting for ${arrivals.missing(accepted)}`);
    await pause(100, signal);
  }
  await pause(TAP_LAG, signal);
  arrivals.stop();
  const lanes = arrivals.results().map((result) => (
    { ...result, ...added(before.get(result.label), figures.of(result.label)) }));
  return signal.aborted ? undefined : { lanes, accepted, problem, isAtLeast: figures.gaps !== gaps };
}

/** The messages of a burst that arrived: on which lane, and when. */
class Arrivals {
  #begin = performance.now();
  #last = this.#begin;
  #lanes = new Map(); // label -> ids and their times of arrival
  #delays = new Map(); // label -> ids, of other messages too, and their delays
  #senders = new Set(); // labels of lanes that sent the burst themselves, so it does not come back on them
  #listening = new AbortController();
  #figures;

  constructor(figures, deliveries, name) {
    this.#figures = figures;
    figures.labels.forEach((label) => [this.#lanes, this.#delays].forEach((map) => map.set(label, new Map())));
    const { signal } = this.#listening;
    figures.addEventListener('message', ({ detail: { label, id, text, own } }) => {
      if (own) {
        this.#senders.add(label);
      } else if (String(text).startsWith(`${name}, `) && !this.#lanes.get(label).has(id)) {
        this.#last = performance.now();
        this.#lanes.get(label).set(id, this.#last - this.#begin);
      }
    }, { signal });
    deliveries.addEventListener('delivery', ({ detail: { label, id, delay } }) => {
      this.#delays.get(label)?.set(id, delay);
    }, { signal });
  }

  stop() {
    this.#listening.abort();
  }

  #late(accepted) {
    return this.#figures.running.filter((label) => !this.#senders.has(label) && this.#lanes.get(label).size < accepted);
  }

  isWaiting(accepted) {
    return this.#late(accepted).length > 0 && performance.now() - this.#last < PATIENCE;
  }

  missing(accepted) {
    return this.#late(accepted).map((label) => `${label}: ${this.#lanes.get(label).size} of ${accepted}`).join(', ');
  }

  results() {
    return this.#figures.running.map((label) => {
      const arrived = this.#lanes.get(label);
      const delays = [...arrived.keys()].map((id) => this.#delays.get(label).get(id));
      return {
        label,
        arrived: arrived.size,
        isSender: this.#senders.has(label),
        delays: delays.filter((delay) => delay !== undefined),
        last: arrived.size === 0 ? undefined : Math.max(...arrived.values()),
      };
    });
  }
}

/** Waits, until `signal` aborts at the latest. */
function pause(time, signal) {
  return new Promise((resolve) => {
    const timer = setTimeout(done, time);
    signal.addEventListener('abort', done);
    function done() {
      clearTimeout(timer);
      signal.removeEventListener('abort', done);
      resolve();
    }
  });
}
