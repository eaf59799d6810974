// An opened frame: its header as the table of RFC 6455, section 5.2, and its payload masked and unmasked, byte under
// byte.

import { cells, countOf, hexByte, join } from './bytes.js';
import { make } from '../dom.js';
import { fieldsOf, table } from './frame-bits.js';

const GROUP = 8; // bytes under each other
const FIRST = 48; // bytes of the payload that are shown
const MORE = 1024;

export class FramePanel {
  #frame;
  #payload = make('div', { class: 'frame-payload' });
  #shown = FIRST;

  constructor(frame) {
    this.#frame = frame;
    const { header } = frame;
    this.element = make('div', { class: 'frame-panel' },
      bitTable(header),
      make('dl', {}, ...fieldsOf(header).map(({ name, value, meaning }) => (
        make('div', {}, make('dt', {}, name), make('dd', {}, make('code', {}, String(value)), ` ${meaning}`))))),
      this.#payload);
    this.refresh();
  }

  /** Shows the payload as far as it has arrived. */
  refresh() {
    const { header, payload, kept, arrived } = this.#frame;
    const [wire, text] = ['bytes', 'text'].map((which) => join(payload.map((field) => field[which])));
    const groups = [];
    const signs = cells(text);
    for (let at = 0; at < Math.min(kept, this.#shown); at += GROUP) {
      groups.push(group(at, header.key, wire.subarray(at, at + GROUP), text.subarray(at, at + GROUP), signs));
    }
    const hasMore = kept > this.#shown;
    const more = make('button', { type: 'button', onclick: () => this.#showMore() },
      `Show ${countOf(Math.min(kept - this.#shown, MORE))} more`);
    const missing = Number(header.length) - arrived;
    this.#payload.replaceChildren(
      make('p', {}, header.length === 0 ? 'There is no payload.' : header.key
        ? 'The payload: each byte on the wire is the byte of the message, combined by XOR with one of the masking-key.'
        : 'The payload, as it is on the wire: it is not masked.'),
      ...(groups.length > 0 ? [make('div', { class: 'frame-groups' }, ...groups)] : []),
      ...(hasMore ? [more] : []),
      ...(missing > 0 ? [make('p', {}, `${countOf(missing)} of the payload have not come yet.`)] : []),
      ...(arrived > kept ? [make('p', {}, `${countOf(arrived - kept)} are not kept here.`)] : []));
  }

  #showMore() {
    this.#shown += MORE;
    this.refresh();
  }
}

/** Opens the panel of a frame below the line of its button, or closes it. The button stays in sight. */
export function toggleFrame(button, frame, scroller) {
  const isOpen = button.getAttribute('aria-expanded') === 'true';
  button.setAttribute('aria-expanded', String(!isOpen));
  if (isOpen) {
    frame.panel.element.remove();
    frame.panel = undefined;
    return;
  }
  frame.panel?.element.remove(); // it is open elsewhere
  frame.panel = new FramePanel(frame);
  const line = button.closest('.wire-line');
  line.after(frame.panel.element);
  frame.panel.element.scrollIntoView({ block: 'nearest' });
  if (line.getBoundingClientRect().top < scroller.getBoundingClientRect().top) {
    line.scrollIntoView({ block: 'start' });
  }
}

/** A row that was drawn again has lost its panels. */
export function reopenFrame(button, { panel }) {
  if (panel) {
    button.setAttribute('aria-expanded', 'true');
    button.closest('.wire-line').after(panel.element);
  }
}

function bitTable(header) {
  const numbers = Array.from({ length: 32 }, (_, at) => (
    make('th', { scope: 'col' }, at % 10 === 0 ? make('b', {}, String(at / 10)) : '', String(at % 10))));
  return make('table', { class: 'frame-bits' },
    make('caption', {}, 'The frame header, 32 bits in a row'),
    make('thead', {}, make('tr', {}, ...numbers)),
    make('tbody', {}, ...table(header).map((row) => make('tr', {}, ...row.map(bitCell)))));
}

function bitCell({ name, bits, value, isRest, goesOn, isPayload }) {
  const shown = isRest ? `${name} continued` : name;
  const kind = isPayload ? 'payload' : name === '' ? 'none' : 'header';
  return make('td', { colspan: bits, 'data-kind': kind, 'data-bits': bits, 'data-goes-on': goesOn === true },
    make('span', {}, shown), isRest ? '' : make('code', {}, String(value)));
}

/** Eight bytes: as they were sent, the key, the unmasked bytes. */
function group(at, key, wire, text, signs) {
  const row = (name, values) => make('tr', {}, make('th', { scope: 'row' }, name),
    ...values.map((value) => make('td', {}, value)));
  const keyBytes = Array.from(wire, (_, index) => key && hexByte(key[(at + index) % 4]));
  const masked = key ? [row('on the wire', Array.from(wire, hexByte)), row('XOR key', keyBytes)] : [];
  const where = wire.length === 1 ? `byte ${at}` : `bytes ${at} to ${at + wire.length - 1}`;
  return make('table', {}, make('caption', {}, where),
    make('tbody', {}, ...masked, row(key ? 'unmasked' : 'on the wire', Array.from(text, hexByte)),
      row('as text', signs.slice(at, at + wire.length))));
}
