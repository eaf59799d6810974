// The live table of the comparison: two rows for each lane, one for each direction. A cell is written only when its
// text changes, so that a selection stays and a quiet lane costs nothing.

import { SECONDS } from './figures.js';
import { make } from '../dom.js';
import { KINDS } from './meter.js';
import { count, markdown, milliseconds, percentile } from './numbers.js';
import { Sparkline, decadesFor } from './sparkline.js';

const DIRECTIONS = ['up', 'down'];
const BEFORE = { requests: 'Requests' }; // the columns of a lane before its bytes
const AFTER = { // and after them
  messages: 'Messages', p50: 'Delay p50', p95: 'Delay p95', empty: 'Empty answers', reconnections: 'Reconnections',
};

export class CompareTable {
  #figures;
  #rows = new Map();
  #top = make('span', { class: 'scale' });

  constructor(lanes, figures) {
    this.#figures = figures;
    this.element = make('table', { class: 'compare-table compare-live' }, this.#head());
    for (const { label, title } of lanes) {
      const row = new LaneRow(label, title);
      this.#rows.set(label, row);
      this.element.append(row.element);
    }
  }

  update() {
    const rates = new Map([...this.#rows.keys()].map((label) => [label, this.#figures.rate(label)]));
    const decades = decadesFor(Math.max(...[...rates.values()].flat()));
    write(this.#top, `log scale, 1 to ${(10 ** decades).toLocaleString('en-US')}`);
    for (const [label, row] of this.#rows) {
      row.update(this.#figures.of(label), this.#figures.leftOut.bytes > 0);
      row.sparkline.draw(rates.get(label), decades);
    }
  }

  markdown() {
    const columns = ['Lane', 'Requests', ...DIRECTIONS.flatMap((direction) => (
      [`Bytes ${direction}`, ...KINDS.map((kind) => `${direction}: ${kind}`)])), ...Object.values(AFTER)];
    const rows = [...this.#rows].map(([label, { title }]) => {
      const figures = withDelays(this.#figures.of(label));
      const bytes = DIRECTIONS.flatMap((direction) => ['total', ...KINDS].map((kind) => figures[direction][kind]));
      return [title, figures.requests, ...bytes, ...Object.keys(AFTER).map((key) => text(key, figures[key]))];
    });
    return markdown('Lanes compared', columns.map((column, at) => ({ title: column, isNumber: at > 0 })), rows);
  }

  #head() {
    const tall = (title) => make('th', { scope: 'col', rowspan: 2, class: 'number' }, title);
    return make('thead', {},
      make('tr', {},
        make('th', { scope: 'col', rowspan: 2 }, 'Lane'),
        ...Object.values(BEFORE).map(tall),
        make('th', { scope: 'colgroup', colspan: 3 + KINDS.length, class: 'group' }, 'Bytes'),
        ...Object.values(AFTER).map(tall),
        make('th', { scope: 'col', rowspan: 2 }, 'Bytes per second, 60 s', this.#top)),
      make('tr', {},
        make('th', { scope: 'col' }, make('span', { class: 'unseen' }, 'direction')),
        make('th', { scope: 'col', class: 'number' }, 'total'),
        make('th', { scope: 'col' }, 'share'),
        ...KINDS.map((kind) => make('th', { scope: 'col', class: 'number' },
          make('i', { class: `swatch ${kind}` }), make('span', {}, kind)))));
  }
}

class LaneRow {
  #cells = {};
  #bars = {};

  constructor(label, title) {
    this.title = title;
    this.sparkline = new Sparkline(SECONDS, `${title}, bytes per second`);
    const cell = (key, attributes = {}) => (
      this.#cells[key] = make('td', { 'data-figure': key, class: 'number', ...attributes }, '0'));
    const lane = make('th', { scope: 'rowgroup', rowspan: 2 }, title);
    if (label === 'webrtc') {
      lane.append(make('small', {}, 'signalling only'));
    }
    const bytes = (direction) => [
      make('th', { scope: 'row', class: 'direction' }, direction),
      cell(`${direction}-total`),
      make('td', {}, this.#bars[direction] = bar()),
      ...KINDS.map((kind) => cell(`${direction}-${kind}`)),
    ];
    const tall = (key) => cell(key, { rowspan: 2 });
    this.element = make('tbody', { 'data-row': label, 'data-state': 'stopped' },
      make('tr', {}, lane, ...Object.keys(BEFORE).map(tall), ...bytes('up'), ...Object.keys(AFTER).map(tall),
        make('td', { rowspan: 2 }, this.sparkline.element)),
      make('tr', {}, ...bytes('down')));
  }

  update(figures, isAtLeast) {
    const all = withDelays(figures);
    this.element.dataset.state = figures.state;
    for (const key of [...Object.keys(BEFORE), ...Object.keys(AFTER)]) {
      write(this.#cells[key], text(key, all[key]));
    }
    for (const direction of DIRECTIONS) {
      const bytes = all[direction];
      for (const kind of ['total', ...KINDS]) {
        write(this.#cells[`${direction}-${kind}`], (isAtLeast && bytes[kind] > 0 ? '≥ ' : '') + count(bytes[kind]));
      }
      KINDS.forEach((kind, at) => { this.#bars[direction].children[at].style.flexGrow = bytes[kind]; });
    }
  }
}

/** The shares of a row. The numbers are beside it. */
function bar() {
  return make('div', { class: 'compare-bar', 'aria-hidden': 'true' },
    ...KINDS.map((kind) => make('i', { class: kind })));
}

function withDelays(figures) {
  return { ...figures, p50: percentile(figures.delays, 0.5), p95: percentile(figures.delays, 0.95) };
}

const text = (key, value) => key === 'p50' || key === 'p95' ? milliseconds(value) : count(value);

/** Writes a text only if it differs. A zero is less visible than a number. */
function write(element, wanted) {
  if (element.textContent !== wanted) {
    element.textContent = wanted;
  }
  element.classList.toggle('zero', wanted === '0' || wanted === '–');
}
