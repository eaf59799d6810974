// Records as text, in the columns of the client `wire`: seconds, direction, name, bytes, meaning. A line that came in
// two events is one line here.

import { cells, countOf, escape, hex, join, ROW } from './bytes.js';

const NAME = 13;
const HEX = 3 * ROW - 1;
const SHORT = 4; // rows of a payload

export function textOf(records, base) {
  const printer = new Printer(base);
  records.forEach((record) => printer.print(record));
  printer.flush();
  return printer.lines.join('\n') + (printer.lines.length > 0 ? '\n' : '');
}

class Printer {
  lines = [];
  #base;
  #above = ''; // direction and name of the line before
  #exchange = '';
  #pending = new Map(); // unfinished lines and payloads, by exchange and direction

  constructor(base) {
    this.#base = base;
  }

  print(record) {
    if (record.text !== undefined) {
      this.#remark(record, [where(record), record.text].filter(Boolean).join(': '));
      return;
    }
    const exchange = where(record);
    if (exchange !== this.#exchange) {
      this.#exchange = exchange;
      this.#remark(record, exchange);
    }
    record.fields.forEach((field) => this.#field(record, field));
  }

  flush() {
    for (const key of [...this.#pending.keys()]) {
      this.#flush(key, '');
    }
  }

  #field(record, field) {
    const key = `${where(record)} ${record.from}`;
    const before = this.#pending.get(key);
    if (before && !isMore(before.fields.at(-1), field)) {
      this.#flush(key, field.name === 'end of chunk' ? 'goes on in the next chunk' : '');
    }
    const pending = this.#pending.get(key) ?? { record, fields: [] };
    pending.fields.push(field);
    this.#pending.set(key, pending);
    if (!isCut(field)) {
      this.#flush(key, '');
    }
  }

  #flush(key, meaning) {
    const { record, fields } = this.#pending.get(key);
    this.#pending.delete(key);
    const last = fields.at(-1);
    if (last.name === 'payload' || last.name === 'unlabelled') {
      this.#payload(record, fields);
    } else if (last.bytes.length > 0) {
      const bytes = join(fields.map((field) => field.bytes));
      const shown = last.name === 'frame header' ? hex(bytes) : escape(bytes);
      const words = last.meaning.replace(/^0x[\da-f]+ is /, '');
      this.#row(record, last.name, shown, last.name === 'part of line' ? meaning : words);
    } else if (last.name === 'broken') {
      this.#remark(record, [last.section && `this violates ${last.section}`, last.meaning].filter(Boolean).join(': '));
    }
  }

  #payload(record, fields) {
    const [bytes, text] = ['bytes', 'text'].map((which) => join(fields.map((field) => field[which])));
    const { frame, name } = fields.at(-1);
    const [{ meaning }] = fields;
    const signs = cells(text);
    for (let at = 0; at < Math.min(bytes.length, SHORT * ROW); at += ROW) {
      const code = frame?.header.opcode === 8 && at === 0 && meaning.match(/\d+/)?.[0];
      const shown = code ? [code, signs.slice(2, ROW).join('')].join(' ') : signs.slice(at, at + ROW).join('');
      this.#row(record, name, hex(bytes.subarray(at, at + ROW)), shown);
    }
    if (bytes.length > SHORT * ROW) {
      this.#row(record, name, `... and ${countOf(bytes.length - SHORT * ROW)} more`, '');
    }
    const said = frame?.header.fin && wholeText(frame);
    if (said && (frame.message.frames.length > 1 || said.length > ROW)) {
      this.#row(record, 'text message', escape(said), '');
    }
  }

  #row(record, name, bytes, meaning) {
    const sign = record.from === 'client' ? '>' : '<';
    const shown = this.#above === sign + name ? '' : name;
    this.#above = sign + name;
    this.#line(record, `${sign} ${shown.padEnd(NAME)}  ${meaning ? bytes.padEnd(HEX) : bytes}  ${meaning}`);
  }

  #remark(record, text) {
    this.#above = '';
    this.#line(record, `* ${text}`);
  }

  #line({ time }, text) {
    this.lines.push(`${Math.max(0, time - this.#base).toFixed(3).padStart(7)} ${text}`.trimEnd());
  }
}

/** The bytes of a text message, if all its frames are whole and kept. */
function wholeText({ message }) {
  const isWhole = ({ header, kept }) => kept === header.length;
  return message?.opcode === 1 && !message.isCut && message.frames.every(isWhole)
    ? join(message.frames.flatMap(({ payload }) => payload.map(({ text }) => text))) : undefined;
}

const where = ({ label, connection, exchange }) => [label, connection && `connection ${connection.replace(/.*:/, '')}`,
  exchange && `exchange ${exchange}`].filter(Boolean).join(', ');

/** Whether more of the field can come. */
function isCut({ name, frame, isLast, bytes }) {
  return name === 'part of line' || (name === 'payload' && frame !== undefined && !isLast)
    || (['content', 'chunk-data'].includes(name) && bytes.at(-1) !== 0x0a);
}

function isMore(before, field) {
  if (before.name === 'part of line') {
    return before.line === field.line;
  }
  return before.name === field.name && before.frame === field.frame;
}
