// Requests and answers, put together again from the records of the view. No DOM.

import { join } from './bytes.js';

const CONTENT = ['content', 'chunk-data'];
const OF_TAP = /([?&])tap=[^&\s]*&?/; // marks a request for the tap: nobody else needs it

const text = (field) => new TextDecoder().decode(field.text).trimEnd();

/** The key of the exchange of a record. Undefined for a record of no exchange. */
export const keyOf = ({ label, connection, exchange }) => exchange && `${label} ${connection} ${exchange}`;

/**
 * The exchanges of records, by their first one: { label, connection, number, begin, end, request, answer, frames }. A
 * request and an answer are { time, last, line, fields, content }: the start line, the pairs of its field lines, the
 * bytes of its content. A frame is { time, isSent, opcode, bytes }. What is not kept is missing.
 */
export function exchangesOf(records) {
  const all = new Map();
  for (const record of records) {
    const key = keyOf(record);
    if (key && record.type === 'bytes') {
      const one = all.get(key) ?? begin(record);
      all.set(key, one);
      one.end = record.time;
      record.fields.forEach((field) => take(one, record, field));
    }
  }
  return [...all.values()];
}

function begin({ label, connection, exchange, time }) {
  const message = () => ({ time: undefined, last: undefined, line: undefined, fields: [], content: [] });
  return { label, connection, number: exchange, begin: time, end: time, request: message(), answer: message(),
    frames: [] };
}

function take(exchange, { from, time }, field) {
  const side = from === 'client' ? exchange.request : exchange.answer;
  const outer = field.outer?.name ?? field.name;
  if (field.name === 'request line' || field.name === 'status line') {
    Object.assign(side, { time, line: text(field).replace(OF_TAP, '$1').replace(/[?&](?= )/, '') });
  } else if (field.name === 'field line' && side.content.length === 0) {
    const [, name, value] = /^([^:]*):\s*(.*)$/s.exec(text(field)) ?? [];
    name && side.fields.push([name, value]);
  } else if (CONTENT.includes(outer)) {
    side.content.push(field.bytes);
  } else if (field.name === 'payload' && field.isLast) {
    const { header, payload } = field.frame;
    const bytes = join(payload.map((part) => part.text));
    exchange.frames.push({ time, isSent: from === 'client', opcode: header.opcode, bytes });
  }
  side.last = time;
}

/** The bytes of the content. */
export const contentOf = ({ content }) => join(content);

/** The value of a field, whatever the case of its name. */
export const fieldOf = ({ fields }, wanted) => fields.find(([name]) => name.toLowerCase() === wanted)?.[1];

/** The URL of a request. */
export function urlOf({ line, ...request }) {
  const [, target = '/'] = line?.split(' ') ?? [];
  return /^https?:/.test(target) ? target : `http://${fieldOf(request, 'host') ?? 'localhost'}${target}`;
}
