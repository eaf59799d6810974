// Frames as fields of the view. A header and the parts of its payload can come in several events, and a message in
// several frames: they know of each other.

import { describe, readHeader } from './frame-bits.js';
import { fromHex, unmask } from './bytes.js';
import { isHeartbeat, markHeartbeat } from './lines.js';

const KEPT_OF_FRAME = 64 * 1024; // bytes of a payload that are kept together with its header
const FRAMES_OF_MESSAGE = 64; // frames of a message that are kept together

export function beginFrame(field, flow) {
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

export function addPayload(field, { opcode, masking_key: key, offset: told }, flow) {
  const { frame } = flow;
  const offset = told ?? frame?.arrived ?? 0; // it is told only where the mask depends on it
  field.text = key ? unmask(field.bytes, fromHex(key), offset) : field.bytes;
  field.isMasked = Boolean(key);
  if (frame?.arrived !== offset) {
    return; // something in between was left out
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
