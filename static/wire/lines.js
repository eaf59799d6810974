// The lines of content as fields of the view. One that is cut by the border of a chunk, or by the end of what had come,
// has several. A heartbeat is an event, a line of JSON or a message like any other: only what it says tells them apart.

import { fromBase64, join } from './bytes.js';
import { kindOfLine } from './names.js';

const LONGEST_HEARTBEAT = 512;
const FIELDS_OF_HEARTBEAT = 16;

const decoder = new TextDecoder();

export function lineField({ name, section, bytes: encoded, meaning = '' }, outer, flow) {
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

/** Tells what the line amounts to, now that it is whole. */
function nameEvent(field, flow) {
  if (field.name === 'JSON line') {
    markHeartbeat([field], isHeartbeat(field.line.parts));
    return;
  }
  if (field.name.endsWith(' field') && flow.event.length < FIELDS_OF_HEARTBEAT) {
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

export function isHeartbeat(parts) {
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

export function markHeartbeat(fields, isOne) {
  for (const field of isOne ? fields : []) {
    field.kind = 'keepalive';
  }
}
