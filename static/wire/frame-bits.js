// The header of a WebSocket frame, bit by bit (RFC 6455, section 5.2).

import { countOf, hex } from './bytes.js';
import { OPCODES } from './names.js';

const opcodeName = (opcode) => OPCODES[opcode] ?? 'reserved';

const bit = (byte, at) => (byte >> (7 - at)) & 1;

/** The values in the bytes of a whole frame header. The length is a Number, or a BigInt if it is too large. */
export function readHeader(bytes) {
  const [first, second] = bytes;
  const short = second & 0x7f;
  const extended = { 126: 2, 127: 8 }[short] ?? 0;
  const isMasked = bit(second, 0) === 1;
  let length = BigInt(extended ? 0 : short);
  for (const byte of bytes.subarray(2, 2 + extended)) {
    length = (length << 8n) | BigInt(byte);
  }
  return {
    fin: bit(first, 0),
    reserved: [1, 2, 3].map((at) => bit(first, at)),
    opcode: first & 0x0f,
    mask: bit(second, 0),
    short,
    extended,
    length: length <= BigInt(Number.MAX_SAFE_INTEGER) ? Number(length) : length,
    key: isMasked ? bytes.subarray(2 + extended, 6 + extended) : undefined,
  };
}

const binary = (value, bits) => value.toString(2).padStart(bits, '0').replace(/\B(?=(.{4})+$)/g, ' ');

/** The fields of a header in their order: the number of bits, the value, and the meaning of each. */
export function fieldsOf(header) {
  const { fin, reserved, opcode, mask, short, extended, length, key } = header;
  const fields = [
    { name: 'FIN', bits: 1, value: fin,
      meaning: fin ? 'the last frame of its message' : 'more frames of this message follow' },
    ...reserved.map((value, at) => ({
      name: `RSV${at + 1}`, bits: 1, value, meaning: value ? 'set: for an extension' : 'no extension uses it' })),
    { name: 'opcode', bits: 4, value: binary(opcode, 4), meaning: `0x${opcode.toString(16)}: ${opcodeName(opcode)}` },
    { name: 'MASK', bits: 1, value: mask, meaning: mask ? 'the payload is masked, as a client must do'
      : 'the payload is not masked, as a server must do' },
    { name: 'Payload len', bits: 7, value: binary(short, 7), meaning: extended
      ? `${short}: the length is in the next ${8 * extended} bits` : `${countOf(short)} of payload` },
  ];
  if (extended) {
    fields.push({ name: 'Extended payload length', bits: 8 * extended, value: String(length),
      meaning: `${countOf(length)} of payload` });
  }
  if (key) {
    fields.push({ name: 'Masking-key', bits: 32, value: hex(key), meaning: 'chosen at random for this frame' });
  }
  return fields;
}

/** The fields cut into rows of 32 bits, as the RFC draws them, followed by the payload. */
export function table(header) {
  const rows = [[]];
  let room = 32;
  const place = ({ bits, ...field }) => {
    for (let left = bits, part = 0; left > 0; part += 1) {
      const taken = Math.min(left, room);
      rows.at(-1).push({ ...field, bits: taken, isRest: part > 0, goesOn: left > taken });
      left -= taken;
      room -= taken;
      if (room === 0) {
        rows.push([]);
        room = 32;
      }
    }
  };
  fieldsOf(header).forEach(place);
  if (header.length > 0) {
    place({ name: 'Payload Data', bits: room, value: countOf(header.length), isPayload: true });
  } else if (room < 32) {
    place({ name: '', bits: room, value: '' });
  }
  return rows.filter((row) => row.length > 0);
}
