// The line about one field: its name, its position, the section that defines it, and its meaning. The height of the
// line never changes.

import { countOf, cutsCharacter } from './bytes.js';
import { make } from '../dom.js';
import { KINDS, sectionUrl } from './names.js';

export class Detail {
  element = make('div', { class: 'wire-detail', id: 'wire-detail' });
  #acts;

  /** `acts` are the buttons of the row that is held. */
  constructor(acts) {
    this.#acts = acts;
    this.clear();
  }

  /** The buttons act on this record. */
  hold(record) {
    this.#acts.show(record);
  }

  clear() {
    this.element.replaceChildren(
      make('span', { class: 'wire-hint' }, 'Point at a field, or walk with the arrow keys. Escape lets go.'),
      make('span', { class: 'wire-legend' }, ...KINDS.map((kind) => make('span', { 'data-kind': kind }, kind))),
      this.#acts.element);
  }

  show(field) {
    const { name, section, kind, meaning, outer } = field;
    const url = sectionUrl(section);
    this.element.replaceChildren(
      make('b', { 'data-kind': kind }, name),
      outer ? make('span', {}, 'in ', linked(outer.name, outer.section)) : '',
      make('span', { class: 'wire-extent' }, extentOf(field)),
      url ? make('a', { href: url, target: '_blank', rel: 'noreferrer' }, section) : make('span', {}, section),
      make('span', { class: 'wire-said' }, [meaning, ...notesOn(field)].filter(Boolean).join('; ')),
      this.#acts.element);
  }
}

function linked(name, section) {
  const url = sectionUrl(section);
  return url ? make('a', { href: url, target: '_blank', rel: 'noreferrer' }, name) : name;
}

function extentOf({ start, bytes }) {
  const at = (number) => number.toString(16).padStart(4, '0');
  return bytes.length === 0 ? 'no bytes'
    : `${countOf(bytes.length)}, ${at(start)} to ${at(start + bytes.length - 1)}`;
}

/** What the row alone does not show: the parts of the same line or payload in other rows. */
function notesOn({ name, line, frame, offset, isLast, text, bytes }) {
  const notes = [];
  if (line?.parts.length > 1) {
    notes.push(name === 'part of line' ? `part of a line that goes on${line.name ? `: it is a ${line.name}` : ''}`
      : `the last of ${line.parts.length} parts of the line`);
  }
  if (frame && offset !== undefined && !(offset === 0 && isLast)) {
    notes.push(`bytes ${offset} to ${offset + bytes.length - 1} of the ${frame.header.length} of the payload`);
  }
  const { begins, ends } = cutsCharacter(text);
  if (bytes.length > 0 && (begins || ends) && frame?.header.opcode !== 2 && frame?.field.bytes !== bytes) {
    notes.push(`${begins ? 'begins' : 'ends'} in the middle of a character`);
  }
  return notes;
}
