// Turns what the tap says into records for the view: the bytes of an event, and its fields, each of which knows what
// came before it where that matters (the frame of a payload, the front of a line that was cut).

import { countOf, fromBase64, fromHex, join, unmask } from '/wire/bytes.js';
import { describe, readHeader } from '/wire/frame-bits.js';
import { FAULTS, kindOfLine, kindOfPiece } from '/wire/names.js';

const KEPT_OF_FRAME = 64 * 1024; // bytes of a payload that are kept together with its header
const FRAMES_OF_MESSAGE = 64; // frames of a message that are kept together
const LONGEST_HEARTBEAT = 512;
const FLOWS = 256; // exchanges that are remembered

const decoder = new TextDecoder();

export class Reader {
  // What is known of each direction of each exchange, the one that was heard last at the end.
  #flows = new Map();

  /** The record of an event of the tap, or undefined if it is nothing that the view shows. */
  read(event) {
    switch (event.type) {
      case 'bytes': return this.#bytes(event);
      case 'end': return remark(event, event.closed
        ? 'The exchange is over, and so is its connection.'
        : 'The exchange is over. Its connection stays open for the next request.');
      case 'struck': return remark(event, FAULTS[event.fault] ?? `The fault took effect: ${event.fault}.`);
      case 'left_out': return this.#leftOut(event);
      default: return undefined;
    }
  }

  #bytes({ type, label, connection, exchange, from, time, pieces }) {
    const flow = this.#flow(`${label} ${connection} ${exchange} ${from}`);
    const fields = pieces.flatMap((piece) => fieldsOf(piece, flow));
    let at = 0;
    for (const [index, field] of fields.entries()) {
      Object.assign(field, { index, start: at });
      at += field.bytes.length;
    }
    return { type, label, connection, exchange, from, time, fields, bytes: join(fields.map(({ bytes }) => bytes)),
      isKeepAlive: isKeepAlive(fields) };
  }

  /** What comes next does not join what came before. */
  #leftOut(event) {
    this.#flows.clear();
    return remark(event, `${countOf(event.bytes)} in ${countOf(event.events, 'event')} are left out: this page was too `
      + 'slow to take them.');
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

// Lines of content. One that is cut by the border of a chunk, or by the end of what had come, has several fields.

function lineField({ name, section, bytes: encoded, meaning = '' }, outer, flow) {
  const bytes = fromBase64(encoded);
  const field = { name, section, kind: kindOfLine({ name }), bytes, text: bytes, meaning, outer };
  const line = flow.line ?? { parts: [] };
  line.parts.push(field);
  field.line = line;
  flow.line = name === 'part of line' ? line : undefined;
  if (name !== 'part of line') {
    line.name = name;
    nameEvent(field, flow);
  }
  return field;
}

const textOf = ({ line }) => decoder.decode(join(line.parts.map(({ bytes }) => bytes))).trimEnd();

/** A heartbeat is an event, a line of JSON or a message like any other: only what it says tells them apart. */
function nameEvent(field, flow) {
  if (field.name === 'JSON line') {
    markHeartbeat([field], isHeartbeat(field.line.parts));
    return;
  }
  if (field.name.endsWith(' field') && flow.event.length < 16) {
    flow.event.push(field);
  }
  if (field.name === 'retry field') {
    const time = /^retry: ?(\d+)$/.exec(textOf(field))?.[1];
    field.meaning ||= time === undefined ? 'ignored' : `reconnect after ${(time / 1000).toFixed(3)} s`;
  }
  if (field.name === 'end of event') {
    endEvent(field, flow);
  }
}

function endEvent(field, flow) {
  const texts = flow.event.map(textOf);
  const data = texts.filter((text) => text.startsWith('data:'));
  const type = texts.findLast((text) => text.startsWith('event:'))?.replace(/^event: ?/, '') || 'message';
  field.meaning ||= data.length > 0 ? `dispatches an event of type ${type}` : 'dispatches nothing: no data';
  const saysSo = data.length === 1 && isHeartbeatText(data[0].replace(/^data: ?/, ''));
  markHeartbeat([...flow.event, field], flow.event.length > 0 && (type === 'heartbeat' || saysSo));
  flow.event = [];
}

function isHeartbeat(parts) {
  return parts.reduce((sum, { bytes }) => sum + bytes.length, 0) <= LONGEST_HEARTBEAT
    && isHeartbeatText(decoder.decode(join(parts.map(({ text }) => text))));
}

function isHeartbeatText(text) {
  try {
    return text.length <= LONGEST_HEARTBEAT && JSON.parse(text)?.type === 'heartbeat';
  } catch {
    return false;
  }
}

function markHeartbeat(fields, isOne) {
  for (const field of isOne ? fields : []) {
    field.kind = 'keepalive';
  }
}

// Frames. A header and the parts of its payload can come in several events.

function beginFrame(field, flow) {
  const header = readHeader(field.bytes);
  const isControl = header.opcode >= 8;
  field.meaning ||= describe(header);
  field.frame = { header, field, payload: [], kept: 0, arrived: 0 };
  flow.frame = field.frame;
  if (!isControl) {
    flow.message = header.opcode === 0 && flow.message ? flow.message : { opcode: header.opcode, frames: [] };
    flow.message.frames.push(field.frame);
    field.frame.message = flow.message;
    if (flow.message.frames.length > FRAMES_OF_MESSAGE) {
      flow.message.frames.shift();
      flow.message.isCut = true;
    }
  }
}

function addPayload(field, { opcode, masking_key: key, offset = 0 }, flow) {
  field.text = key ? unmask(field.bytes, fromHex(key), offset) : field.bytes;
  field.isMasked = key !== undefined && key !== null;
  const { frame } = flow;
  if (frame?.arrived !== offset) {
    return; // the header came before this page listened, or something in between was left out
  }
  field.frame = frame;
  field.offset = offset;
  if (frame.kept + field.bytes.length <= KEPT_OF_FRAME && frame.arrived === frame.kept) {
    frame.payload.push(field);
    frame.kept += field.bytes.length;
  }
  frame.arrived += field.bytes.length;
  field.isLast = frame.arrived === frame.header.length;
  if (field.isLast && opcode === 8 && offset === 0 && field.text.length >= 2) {
    field.meaning ||= `status code ${(field.text[0] << 8) | field.text[1]}`;
  }
  if (field.isLast && opcode === 1 && frame.header.fin) {
    markHeartbeat([frame.field, field], frame.kept === frame.arrived && isHeartbeat(frame.payload));
  }
}
