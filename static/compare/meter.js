// Counts the bytes that the tap shows, for each lane and direction, in four kinds. No DOM.
//
// The parameter `tap` in a request line is left out: it is there only because somebody looks.

import { ByteKinds, KINDS } from './byte-kinds.js';

const MAX_OPEN = 256; // exchanges; a page has a dozen

export { KINDS };

export class Meter {
  /** What the server did not show because the page was slow: with any, each count is "at least". */
  leftOut = { bytes: 0, events: 0 };

  #lanes = new Map();
  #open = new Map(); // by label and exchange

  /** An event of the tap. Returns how many bytes it has counted. */
  take(event) {
    if (event.type === 'bytes') {
      return this.#takeBytes(event);
    }
    if (event.type === 'end') {
      this.#end(keyOf(event));
    } else if (event.type === 'left_out') {
      this.leftOut.bytes += event.bytes;
      this.leftOut.events += event.events;
      this.interrupted();
    }
    return 0;
  }

  /** Something was not shown: what is half here is not going to be completed. */
  interrupted() {
    this.#open.forEach(endBoth);
  }

  /**
   * What one lane has cost: { requests, exchanges, up, down }, each direction { total, payload, framing, headers,
   * keepalive }. `total` is right at once; the kinds follow when a chunk or a frame is complete.
   */
  of(label) {
    const { requests, exchanges, up, down } = this.#lane(label);
    return { requests, exchanges, up: { ...up }, down: { ...down } };
  }

  reset() {
    this.interrupted();
    this.#lanes.clear();
    this.leftOut = { bytes: 0, events: 0 };
  }

  #takeBytes(event) {
    const lane = this.#lane(event.label);
    const exchange = this.#exchange(event, lane);
    let counted = 0;
    for (const piece of event.pieces) {
      let bytes = atob(piece.bytes ?? '');
      if (piece.name === 'request line') {
        lane.requests += 1;
        bytes = withoutTap(bytes);
      }
      counted += bytes.length;
      exchange[event.from].take(piece, bytes);
    }
    lane[event.from === 'client' ? 'up' : 'down'].total += counted;
    return counted;
  }

  #exchange(event, lane) {
    const key = keyOf(event);
    let exchange = this.#open.get(key);
    if (!exchange) {
      lane.exchanges += 1;
      exchange = {
        client: new ByteKinds('client', (kind, bytes) => { this.#lane(event.label).up[kind] += bytes; }),
        server: new ByteKinds('server', (kind, bytes) => { this.#lane(event.label).down[kind] += bytes; }),
      };
      this.#open.set(key, exchange);
      if (this.#open.size > MAX_OPEN) {
        this.#end(this.#open.keys().next().value);
      }
    }
    return exchange;
  }

  #end(key) {
    const exchange = this.#open.get(key);
    this.#open.delete(key);
    if (exchange) {
      endBoth(exchange);
    }
  }

  #lane(label) {
    if (!this.#lanes.has(label)) {
      this.#lanes.set(label, { requests: 0, exchanges: 0, up: noBytes(), down: noBytes() });
    }
    return this.#lanes.get(label);
  }
}

const keyOf = ({ label, exchange }) => `${exchange} ${label}`;
const endBoth = ({ client, server }) => [client, server].forEach((direction) => direction.end());
const noBytes = () => Object.fromEntries(['total', ...KINDS].map((kind) => [kind, 0]));

/** With `tap=ID.label` goes the `&` or `?` that it needs. */
function withoutTap(requestLine) {
  return requestLine.replace(/([?&])tap=[^&# ]*(&?)/, (_, before, after) => after === '' ? '' : before);
}

/** What was added between two readings of one lane. */
export function difference(before, after) {
  const subtract = (a, b) => Object.fromEntries(Object.keys(b).map((key) => [key, b[key] - a[key]]));
  return {
    requests: after.requests - before.requests,
    exchanges: after.exchanges - before.exchanges,
    up: subtract(before.up, after.up),
    down: subtract(before.down, after.down),
  };
}
