// Turns what the tap says into records for the view: the bytes of an event, and its fields, each of which knows what
// came before it where that matters (the frame of a payload, the front of a line that was cut).

import { countOf, fromBase64, join } from './bytes.js';
import { addPayload, beginFrame } from './frames.js';
import { lineField } from './lines.js';
import { FAULTS, kindOfPiece } from './names.js';

const FLOWS = 256; // exchanges that are remembered

const decoder = new TextDecoder();

export class Reader {
  // What is known of each direction of each exchange, the one that was heard last at the end.
  #flows = new Map();

  /** The record of an event of the tap, or undefined if it is nothing that the view shows. */
  read(event) {
    switch (event.type) {
      case 'bytes': return this.#bytes(event);
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

  /** What comes next does not join what came before. */
  #leftOut(event) {
    this.#flows.clear();
    return remark(event, `Not shown: ${countOf(event.bytes)} in ${countOf(event.events, 'event')}. The tap passes on `
      + 'only so much at a time.');
  }

  #flow(key) {
    const flow = this.#flows.get(key) ?? { event: [] };
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

/** A message of the data channel, of which the page sees no bytes: its text as bytes. */
export function message({ what, label, text, time }) {
  const bytes = new TextEncoder().encode(text);
  const field = { name: 'message', section: '', kind: 'payload', bytes, text: bytes, meaning: '', index: 0, start: 0 };
  return { type: what, label, from: what === 'sent' ? 'client' : 'server', time, fields: [field], bytes,
    isKeepAlive: false };
}

/** Something was there for keeping the connection, and nothing else but what frames it. */
function isKeepAlive(fields) {
  return fields.some(({ kind }) => kind === 'keepalive')
    && fields.every(({ kind }) => kind === 'keepalive' || kind === 'framing');
}

/** The fields of a piece: the lines in it, or itself. */
function fieldsOf(piece, flow) {
  const { name, section } = piece;
  if (piece.lines?.length > 0) {
    return piece.lines.map((line) => lineField(line, { name, section }, flow));
  }
  const bytes = fromBase64(piece.bytes ?? '');
  const field = { name, section, kind: kindOfPiece(piece), bytes, text: bytes, meaning: piece.meaning ?? '' };
  if (name === 'frame header') {
    beginFrame(field, flow);
  } else if (name === 'payload') {
    addPayload(field, piece, flow);
  } else if (name === 'chunk-size') {
    const size = parseInt(String.fromCharCode(...bytes.subarray(0, 16)), 16);
    field.meaning ||= `0x${size.toString(16)} is ${countOf(size)}`;
  } else if (name === 'last-chunk') {
    field.meaning ||= 'no more chunks';
  } else if (field.kind === 'headers') {
    readHead(field, flow);
  } else if (name === 'end of message') {
    flow.line = undefined;
    flow.event = [];
  }
  return [field];
}

/** Remembers what tells how the content ends, and says so where the head does. */
function readHead(field, flow) {
  const text = decoder.decode(field.bytes).trimEnd();
  const [, name, value] = /^([^:]+):\s*(.*)$/.exec(text) ?? [];
  if (field.name === 'status line' || field.name === 'request line') {
    flow.head = { isSwitch: text.startsWith('HTTP/1.1 101') };
  } else if (field.name === 'field line' && flow.head) {
    flow.head[name?.toLowerCase()] = value;
  } else if (field.name === 'end of head' && flow.head) {
    const { isSwitch, 'content-length': length, 'transfer-encoding': coding } = flow.head;
    field.meaning ||= isSwitch ? 'frames follow' : coding === 'chunked' ? 'chunks follow'
      : length === undefined ? '' : length === '0' ? 'no content' : `${countOf(Number(length))} of content follow`;
    flow.head = undefined;
  }
}
