// Turns the events of the tap into records for the view: the bytes of an event, and its fields. The tap says what each
// field is and means. Here the fields of several events are connected: a payload and its frame, the parts of a line.

import { countOf, fromBase64, join } from './bytes.js';
import { addPayload, beginFrame } from './frames.js';
import { FAULTS } from './names.js';

const FLOWS = 256; // exchanges that are remembered

export class Reader {
  #flows = new Map(); // the state of each direction of each exchange, the one that was read last at the end

  /** The record of an event of the tap. Undefined if the view does not show the event. */
  read(event) {
    switch (event.type) {
      case 'bytes': return event.pieces.length > 0 ? this.#bytes(event) : undefined;
      case 'end': return this.#end(event);
      case 'struck': return remark(event, FAULTS[event.fault] ?? `The fault took effect: ${event.fault}.`);
      case 'left_out': return this.#leftOut(event);
      default: return undefined;
    }
  }

  #bytes({ type, label, connection, exchange, from, time, pieces }) {
    const flow = this.#flow(keyOf({ label, connection, exchange }, from));
    const fields = pieces.flatMap((piece) => fieldsOf(piece, flow));
    let at = 0;
    for (const [index, field] of fields.entries()) {
      Object.assign(field, { index, start: at });
      at += field.bytes.length;
    }
    return { type, label, connection, exchange, from, time, fields, bytes: join(fields.map(({ bytes }) => bytes)),
      isKeepAlive: isKeepAlive(fields) };
  }

  #end(event) {
    ['client', 'server'].forEach((from) => this.#flows.delete(keyOf(event, from)));
    return remark(event, event.closed ? 'The exchange is over, and so is its connection.'
      : 'The exchange is over. Its connection stays open for the next request.');
  }

  /** The next bytes do not continue the last ones. */
  #leftOut(event) {
    this.#flows.clear();
    return remark(event, `Not shown: ${countOf(event.bytes)} in ${countOf(event.events, 'event')}. The tap shows only a `
      + 'limited number of bytes at a time.');
  }

  #flow(key) {
    const flow = this.#flows.get(key) ?? {};
    this.#flows.delete(key);
    this.#flows.set(key, flow);
    if (this.#flows.size > FLOWS) {
      this.#flows.delete(this.#flows.keys().next().value);
    }
    return flow;
  }
}

const keyOf = ({ label, connection, exchange }, from) => `${label} ${connection} ${exchange} ${from}`;

/** A record without bytes: something that happened. */
export function remark({ type, label, connection, exchange, time }, text) {
  return { type, label, connection, exchange, time, text, fields: [], bytes: new Uint8Array(), isKeepAlive: false };
}

/** A message of a data channel. The page does not see its bytes on the wire: these are the bytes of its text. */
export function peerMessage({ what, label, text, time }) {
  const bytes = new TextEncoder().encode(text);
  const field = { name: 'message', section: '', kind: 'payload', bytes, text: bytes, meaning: '', index: 0, start: 0 };
  return { type: what, label, from: what === 'sent' ? 'client' : 'server', time, fields: [field], bytes,
    isKeepAlive: false };
}

/** Whether the bytes only keep the connection open: nothing but keep-alive, and framing around it. */
function isKeepAlive(fields) {
  return fields.some(({ kind }) => kind === 'keep-alive')
    && fields.every(({ kind }) => kind === 'keep-alive' || kind === 'framing');
}

/** The fields of a piece: its lines, or the piece itself. */
function fieldsOf(piece, flow) {
  const { name, section, lines = [] } = piece;
  if (lines.length > 0) {
    return lines.map((line) => lineField(line, { name, section }, flow));
  }
  const field = fieldOf(piece);
  if (name === 'frame header') {
    beginFrame(field, flow);
  } else if (name === 'payload') {
    addPayload(field, piece, flow);
  } else if (name === 'end of message') {
    flow.line = undefined;
  }
  return [field];
}

function fieldOf({ name, section, kind, meaning = '', bytes: encoded = '' }) {
  const bytes = fromBase64(encoded);
  return { name, section, kind, meaning, bytes, text: bytes };
}

/** A line of content. The end of a chunk, or of what had arrived, can cut it into several fields. */
function lineField(line, outer, flow) {
  const whole = flow.line ?? { parts: [] };
  const field = { ...fieldOf(line), outer, line: whole };
  whole.parts.push(field);
  const isCut = line.name === 'part of line';
  flow.line = isCut ? whole : undefined;
  if (!isCut) {
    whole.name = line.name;
  }
  return field;
}
