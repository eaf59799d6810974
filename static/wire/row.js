// One row of the wire view: time, direction, length and connection, and the bytes as text, as hex and as characters. A
// field has the same `data-field` in all. A brief row has a line of text instead.

import { cells, countOf, escape, hexByte, runs } from './bytes.js';
import { make } from '../dom.js';

const FIRST = 2048; // bytes of a row that are shown at first
const MORE = 16 * 1024;
const GROUP = 8; // bytes of hex that stay together
const BRIEF = 240; // characters of a brief row

const WAYS = {
  client: ['\u2192', 'to server', 'client to server'],
  server: ['\u2190', 'to client', 'server to client'],
  sent: ['\u2192', 'to peers', 'from this page to its peers'],
  received: ['\u2190', 'from a peer', 'from a peer to this page'],
};

export function makeRow(record, title, isBrief = false) {
  const { type, label, connection, exchange, from, text } = record;
  const [arrow, way, words] = WAYS[type] ?? WAYS[from] ?? [];
  const head = make('div', { class: 'wire-head' },
    make('span', { class: 'wire-time' }),
    ...(arrow ? [make('span', { class: 'wire-way', title: words },
      make('span', { class: 'wire-arrow', 'aria-hidden': 'true' }, arrow), way)]
      : isBrief ? [make('span', { class: 'wire-way' })] : []),
    make('span', { class: 'wire-length' }, record.bytes.length > 0 ? `${record.bytes.length} B` : ''),
    make('span', { class: 'wire-lane' }, title ?? ''),
    make('span', { class: 'wire-where' }, connection
      ? make('span', { title: `connection ${connection}` }, portOf(connection)) : '',
    exchange ? make('span', { title: `exchange ${exchange}` }, ` #${exchange}`) : ''));
  const row = make('li', { class: 'wire-row', 'data-type': type, 'data-from': from, 'data-label': label }, head);
  row.append(...(text === undefined ? [] : [make('p', { class: 'wire-remark' }, text)]));
  if (isBrief) {
    text === undefined && row.append(summaryOf(record));
  } else {
    fillRow(row, record);
  }
  return row;
}

/** The start line, or else what was said, or else the first field that has bytes. */
function summaryOf({ fields }) {
  const line = fields.find(({ name }) => ['request line', 'status line'].includes(name));
  const said = fields.filter(({ kind, bytes }) => ['payload', 'keep-alive'].includes(kind) && bytes.length > 0);
  const [first = fields[0]] = [line, ...said, ...fields.filter(({ bytes }) => bytes.length > 0)].filter(Boolean);
  const shown = line ? [line] : said.length > 0 ? said : [first];
  const text = shown.map((field) => escape(field.text.subarray(0, BRIEF))).join(' ').slice(0, BRIEF);
  return make('p', { class: 'wire-brief', 'data-kind': first?.kind }, text);
}

const portOf = (connection) => `:${connection.replace(/.*:/, '')}`;

/** Shows the first bytes of the record. Its button shows more. */
export function fillRow(row, record) {
  row.querySelectorAll('.wire-text, .wire-hex, .wire-more').forEach((element) => element.remove());
  if (record.fields.length === 0) {
    return;
  }
  record.shown ??= FIRST;
  const left = record.bytes.length - record.shown;
  const fields = record.fields.filter(({ start }) => left <= 0 || start < record.shown);
  row.append(make('div', { class: 'wire-text' }, ...fields.map((field, at) => (
    lineOf(field, record.shown, at > 0 && fields[at - 1].name === field.name)))));
  if (record.type === 'bytes' && record.bytes.length > 0) {
    row.append(make('div', { class: 'wire-hex' }, ...hexOf(record, fields)));
  }
  if (left > 0) {
    row.append(make('button', { type: 'button', class: 'wire-more', 'data-action': 'more' },
      left > MORE ? `Show ${countOf(MORE)} of ${left} more` : `Show ${countOf(left)} more`));
  }
}

export function showMore(row, record) {
  record.shown += MORE;
  fillRow(row, record);
}

/** A field as text: its name, if the field above has another, its bytes, and their meaning. */
function lineOf(field, shown, isSame) {
  const { index, name, kind, text, start, meaning, isMasked, frame } = field;
  const part = text.subarray(0, Math.max(0, shown - start));
  const after = [];
  if (frame?.field === field) {
    after.push(make('button', { type: 'button', class: 'wire-bits', tabindex: -1, 'data-frame': index,
      'aria-expanded': 'false' }, 'bits'));
  }
  const words = [meaning, isMasked && 'unmasked; in hex as on the wire'].filter(Boolean).join('; ');
  if (words) {
    after.push(make('span', { class: 'wire-meaning' }, words));
  }
  const bytes = make('span', { class: 'wire-field', role: 'button', tabindex: -1, 'data-field': index,
    'data-kind': kind }, ...(part.length > 0 ? runs(part).map(runOf) : [make('i', {}, 'no bytes')]));
  return make('div', { class: 'wire-line' }, make('span', { class: isSame ? 'wire-name is-same' : 'wire-name' }, name),
    make('span', {}, bytes, ...after));
}

const runOf = ({ text, escaped }) => escaped ? make('span', { class: 'wire-escape' }, text) : text;

/** Groups of eight bytes with their offset and as characters, cut where fields end. */
function hexOf({ bytes, shown }, fields) {
  const all = [];
  const signs = cells(bytes.subarray(0, shown));
  const end = Math.min(bytes.length, shown);
  let index = 0;
  for (let at = 0; at < end; at += GROUP) {
    const [parts, characters] = [[], []];
    for (let from = at; from < Math.min(end, at + GROUP);) {
      while (fields[index].start + fields[index].bytes.length <= from) {
        index += 1;
      }
      const field = fields[index];
      const to = Math.min(end, at + GROUP, field.start + field.bytes.length);
      parts.push(parts.length > 0 ? ' ' : '', make('span', { 'data-field': field.index, 'data-kind': field.kind },
        Array.from(bytes.subarray(from, to), hexByte).join(' ')));
      characters.push(make('span', { 'data-field': field.index, 'data-kind': field.kind },
        signs.slice(from, to).map(inOneColumn).join('')));
      from = to;
    }
    all.push(make('span', { class: 'wire-offset' }, at.toString(16).padStart(4, '0')),
      make('span', { class: 'wire-eight' }, ...parts),
      make('span', { class: 'wire-ascii', 'aria-hidden': 'true' }, ...characters));
  }
  return all;
}

/** One character for each byte: what is not ASCII would have another width, or none. */
const inOneColumn = (sign) => /^[ -~]$/.test(sign) ? sign : '.';
