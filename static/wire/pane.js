// The pane beside the list: the whole of the row that was chosen.

import { make } from '../dom.js';
import { Pointer } from './pointer.js';
import { makeRow } from './row.js';

const HINT = 'Choose a row, with a click or with the arrow keys.';
const WAYS = { ArrowDown: 'nextElementSibling', ArrowUp: 'previousElementSibling' };

export class Pane {
  #shown = make('ol', { class: 'wire-rows' });
  #detail;
  #pointer;
  #list;
  element = make('div', { class: 'wire-pane', role: 'region', 'aria-label': 'The chosen row', tabindex: 0 }, this.#shown);
  /** The record that is shown. */
  record = undefined;

  /** `list` is { rows, recordOf(row), titleOf(record) }: the rows of the list, and what they stand for. */
  constructor(detail, point, list) {
    this.#detail = detail;
    this.#list = list;
    this.#pointer = new Pointer(this.element, this.#shown, detail, point);
    this.pick(undefined);
  }

  /** Shows the whole of a record, and marks its row. Without a record: nothing. */
  pick(record) {
    this.record?.row?.classList.remove('is-chosen');
    this.record = record;
    this.#pointer.release();
    this.element.scrollTop = 0;
    if (record === undefined) {
      this.#shown.replaceChildren(make('li', { class: 'wire-hint' }, HINT));
      return;
    }
    record.row.classList.add('is-chosen');
    record.row.scrollIntoView({ block: 'nearest' });
    const row = makeRow(record, this.#list.titleOf(record));
    row.querySelector('.wire-time').textContent = record.shownTime;
    this.#shown.replaceChildren(row);
    this.#pointer.learn(row, record);
    this.#detail.hold(record);
  }

  /** The arrow keys go from row to row of the list. */
  walk(event) {
    const way = WAYS[event.key];
    if (!way) {
      return;
    }
    event.preventDefault();
    const now = this.record?.row;
    let row = now?.isConnected ? now[way] : this.#list.rows.lastElementChild;
    while (row?.hidden) {
      row = row[way];
    }
    row && this.pick(this.#list.recordOf(row));
  }
}
