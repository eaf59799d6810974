// Frames as fields of the view. A header and the parts of its payload can come in several events, and a message in
// several frames: here they are connected.

import { fromHex, unmask } from './bytes.js';
import { readHeader } from './frame-bits.js';

const KEPT_OF_FRAME = 64 * 1024; // bytes of a payload that are kept with its header
const FRAMES_OF_MESSAGE = 64; // frames of a message that are kept together

export function beginFrame(field, flow) {
  const header = readHeader(field.bytes);
  const isControl = header.opcode >= 8;
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

/** The tap gives the offset only of a masked payload. */
export function addPayload(field, { masking_key: key, offset: given }, flow) {
  const { frame } = flow;
  const offset = given ?? frame?.arrived ?? 0;
  field.text = key ? unmask(field.bytes, fromHex(key), offset) : field.bytes;
  field.isMasked = Boolean(key);
  if (frame?.arrived !== offset) {
    return; // bytes before these were left out
  }
  field.frame = frame;
  field.offset = offset;
  if (frame.kept + field.bytes.length <= KEPT_OF_FRAME && frame.arrived === frame.kept) {
    frame.payload.push(field);
    frame.kept += field.bytes.length;
  }
  frame.arrived += field.bytes.length;
  field.isLast = frame.arrived === frame.header.length;
}
