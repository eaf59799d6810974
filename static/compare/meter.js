// Sums the bytes that the tap has counted, for each lane, direction and kind. No DOM.

/** The kinds of bytes, as the tap names them. */
export const KINDS = ['payload', 'framing', 'header', 'keep-alive'];

export class Meter {
  /** What the tap did not show because the page was slow. With any, each sum is "at least". */
  leftOut = { bytes: 0, events: 0 };

  #lanes = new Map();

  /** Takes an event of the tap. Returns the number of bytes that it adds. */
  take({ type, label, from, pieces, counted, bytes, events }) {
    if (type === 'left_out') {
      this.leftOut.bytes += bytes;
      this.leftOut.events += events;
    }
    if (type !== 'bytes') {
      return 0;
    }
    const lane = this.#lane(label);
    const direction = lane[from === 'client' ? 'up' : 'down'];
    lane.requests += pieces.filter(({ name }) => name === 'request line').length;
    const added = KINDS.reduce((sum, kind) => sum + counted[kind], 0);
    KINDS.forEach((kind) => { direction[kind] += counted[kind]; });
    direction.total += added;
    return added;
  }

  /** The sums of one lane: { requests, up, down }. Each direction has `total` and the kinds. */
  of(label) {
    const { requests, up, down } = this.#lane(label);
    return { requests, up: { ...up }, down: { ...down } };
  }

  reset() {
    this.#lanes.clear();
    this.leftOut = { bytes: 0, events: 0 };
  }

  #lane(label) {
    if (!this.#lanes.has(label)) {
      this.#lanes.set(label, { requests: 0, up: noBytes(), down: noBytes() });
    }
    return this.#lanes.get(label);
  }
}

const noBytes = () => Object.fromEntries(['total', ...KINDS].map((name) => [name, 0]));

/** The difference between two readings of one lane. */
export function difference(before, after) {
  const subtract = (a, b) => Object.fromEntries(Object.keys(b).map((key) => [key, b[key] - a[key]]));
  return {
    requests: after.requests - before.requests,
    up: subtract(before.up, after.up),
    down: subtract(before.down, after.down),
  };
}
