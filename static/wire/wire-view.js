// The wire view: the bytes on the connections, as the tap shows them. Events are kept at once. They are drawn in
// portions, and only while the view is in sight. Rows in sight never move, except that a list at its end scrolls.

import { make } from '../dom.js';
import { Acts, idIn } from './acts.js';
import { Controls } from './controls.js';
import { Detail } from './detail.js';
import { Exports } from './exports.js';
import { Filter, wordsOf } from './filter.js';
import { reopenFrame, toggleFrame } from './frame-panel.js';
import { Pane } from './pane.js';
import { Recording } from './recording.js';
import { Place } from './place.js';
import { Pointer } from './pointer.js';
import { makeRow, showMore } from './row.js';

const DRAWING = 24; // milliseconds of one portion
const BETWEEN = 50; // milliseconds from one portion to the next

const CLOSED = 'The tap cannot be opened: the server is away, or a proxy in front of it does not pass the field Upgrade, '
  + 'which a WebSocket needs. It is tried again.';

/**
 * `hint` says what to do while there are no rows: texts and elements. `messages` has `show(id)`, which shows a message
 * in the lanes, and `point(id)`, which marks it there; without an id it marks none.
 */
export function mountWireView(root, { tap, lanes, hint = ['Start a lane, and its bytes appear here.'], messages }) {
  const recording = new Recording(tap);
  const nothing = ['Nothing yet. ', ...hint];
  const view = new WireView(root, recording, { lanes, nothing, messages });
  tap.addEventListener('failed', () => view.nothing([CLOSED]));
  tap.addEventListener('open', () => view.nothing(nothing));
  return { show: (label) => view.show(label), find: (label, id) => view.find(label, id),
    watch: (label, lane) => recording.watch(label, lane) };
}

class WireView {
  #recording;
  #controls;
  #titles;
  #stalePanels = new Set();
  #records = new WeakMap(); // of a row
  #hasFilled = false; // since rows were last removed
  #fresh = []; // rows that were added since then
  #gone = new Set(); // rows of records that are no longer kept
  #isSeen = false;
  #isDue = false;
  #drawn = -BETWEEN; // the time of the last portion
  #nothing;
  #filter;
  #exports;
  #detail;
  #pane;
  #wanted = undefined; // { record, text }: a row to be found as soon as it is drawn

  #rows = make('ol', { class: 'wire-rows' });
  #empty = make('div', { class: 'wire-empty' });
  #toEnd = make('button', { type: 'button', class: 'wire-to-end', hidden: true, onclick: () => this.#place.toEnd() },
    'To the newest');
  #list = make('div', { class: 'wire-list', role: 'region', 'aria-label': 'Bytes', tabindex: 0 },
    make('div', {}, this.#empty, this.#rows));
  #place = new Place(this.#list, this.#rows, () => this.#scrolled());
  #pointer;

  constructor(root, recording, { lanes, nothing, messages }) {
    this.#recording = recording;
    this.#nothing = nothing;
    this.#empty.append(...nothing);
    this.#titles = new Map(lanes.map(({ label, title }) => [label, title]));
    this.#controls = new Controls(lanes);
    this.#filter = new Filter(this.#controls);
    this.#exports = new Exports(recording, this.#controls, this.#filter);
    this.#detail = new Detail(new Acts({ hex: (record) => this.#exports.copyHex(record),
      curl: (record) => this.#exports.copyCurl(record), message: messages?.show }));
    const point = messages?.point ?? (() => {});
    this.#pointer = new Pointer(this.#list, this.#rows, this.#detail, point);
    this.#pane = new Pane(this.#detail, point, { rows: this.#rows, recordOf: (row) => this.#records.get(row),
      titleOf: ({ label }) => this.#titles.get(label) });
    root.classList.add('wire-view');
    root.append(this.#controls.element,
      make('div', { class: 'wire-frame' }, this.#list, this.#pane.element, this.#toEnd), this.#detail.element);
    this.#listen(root);
    recording.addEventListener('kept', ({ detail }) => this.#freshen(detail));
    recording.addEventListener('gone', ({ detail }) => this.#forget(detail));
    recording.addEventListener('change', () => this.#schedule());
    new IntersectionObserver((entries) => {
      this.#isSeen = entries.at(-1).isIntersecting;
      this.#schedule();
    }).observe(this.#list);
  }

  #listen(root) {
    const on = (type, act) => this.#controls.addEventListener(type, act);
    on('change', () => this.#choose());
    on('lane', () => {
      this.#pointer.release();
      this.#choose();
      this.#place.toEnd();
    });
    on('hex', ({ detail }) => root.classList.toggle('without-hex', !detail));
    on('pause', () => this.#controls.showPaused(this.#recording.pause()));
    on('clear', () => this.#clear());
    on('layout', () => this.#arrange(root));
    this.#rows.addEventListener('click', ({ target }) => this.#press(target));
    this.#pane.element.addEventListener('click', ({ target }) => this.#press(target));
    this.#list.addEventListener('keydown', (event) => this.#controls.isList && this.#pane.walk(event));
    root.classList.toggle('as-list', this.#controls.isList);
  }

  show(label) {
    this.#controls.choose(label);
  }

  /** Shows the newest row of a lane whose bytes have the id of a message. */
  find(label, id) {
    const record = this.#recording.records.findLast((one) => (
      one.label === label && one.fields.length > 0 && wordsOf(one).includes(id)));
    this.show(label);
    if (record && this.#filter.matches(record)) {
      this.#wanted = { record, id };
    }
    this.#controls.tell(record ? this.#wanted ? '' : 'The filter hides the bytes of this message.'
      : 'The bytes of this message are not kept.');
    this.#schedule();
  }

  /** Says why there are no rows. */
  nothing(text) {
    this.#nothing = text;
    this.#schedule();
  }

  /** An opened frame shows its payload as far as it has arrived. */
  #freshen({ fields }) {
    for (const { frame } of fields) {
      if (frame?.panel) {
        this.#stalePanels.add(frame.panel);
      }
    }
  }

  #forget({ row }) {
    if (row) {
      this.#gone.add(row);
    }
  }

  // What the buttons do.

  #choose() {
    this.#filter.renew();
    this.#take([...this.#gone]); // the new filters are not applied to these
    this.#schedule();
  }

  /** Draws all rows again, as a list or whole. */
  #arrange(root) {
    root.classList.toggle('as-list', this.#controls.isList);
    this.#removeRows();
    this.#recording.records.forEach((record) => Object.assign(record, { row: undefined, shownTime: undefined }));
    this.#schedule();
  }

  #clear() {
    this.#recording.clear();
    this.#removeRows();
    this.#controls.tell('');
  }

  #removeRows() {
    this.#rows.replaceChildren();
    this.#fresh = [];
    this.#gone.clear();
    this.#pointer.release();
    this.#pane.pick(undefined);
    this.#place.toEnd();
  }

  #press(target) {
    const [row, button] = [target.closest('.wire-row'), target.closest('button')];
    const isInPane = this.#pane.element.contains(target);
    const record = isInPane ? this.#pane.record : row && this.#records.get(row);
    if (this.#controls.isList && !isInPane && record) {
      this.#pane.pick(record);
    }
    if (!record || !button) {
      return;
    }
    if (button.dataset.action === 'more') {
      showMore(row, record);
      row.querySelectorAll('.wire-bits').forEach((bits) => reopenFrame(bits, record.fields[bits.dataset.frame].frame));
    } else if (button.dataset.frame !== undefined) {
      toggleFrame(button, record.fields[button.dataset.frame].frame, isInPane ? this.#pane.element : this.#list);
    }
    this.#place.look();
  }

  // Drawing.

  #schedule() {
    if (this.#isSeen && !this.#isDue) {
      this.#isDue = true;
      const wait = Math.max(0, this.#drawn + BETWEEN - performance.now());
      setTimeout(() => requestAnimationFrame(() => this.#draw()), wait);
    }
  }

  /**
   * Adds rows or removes rows, never both in one frame: adding scrolls the list, removing keeps the rows in sight in
   * their place. Both together would be a layout shift.
   */
  #draw() {
    this.#isDue = false;
    if (!this.#isSeen) {
      return; // it is drawn when it is in sight again
    }
    this.#drawn = performance.now();
    if (this.#hasFilled && this.#isTrimDue()) {
      this.#trim();
      this.#schedule();
    } else {
      this.#fill();
    }
  }

  #isTrimDue() {
    return this.#fresh.length > 0 || this.#place.unseen([...this.#gone]).length > 0;
  }

  /** A row in sight stays until it is out of sight. */
  #trim() {
    this.#hasFilled = false;
    // They have been measured, so they can be left out of the layout while they are out of sight.
    this.#fresh.splice(0).forEach((row) => row.classList.add('is-measured'));
    this.#place.keep(() => this.#take(this.#place.unseen([...this.#gone])));
  }

  #take(rows) {
    if (rows.some((row) => row.contains(document.activeElement))) {
      this.#list.focus({ preventScroll: true });
    }
    for (const row of rows) {
      row.remove();
      this.#gone.delete(row);
    }
  }

  #fill() {
    this.#hasFilled = true;
    const end = this.#drawn + DRAWING;
    let above = null; // the row, shown or not, before the next one
    let before; // the record shown before the next one
    let [shown, drawn] = [0, 0];
    for (const record of this.#recording.records) {
      const isShown = this.#filter.matches(record);
      if (isShown && !record.row) {
        if (drawn > 0 && performance.now() > end) { // a portion has one row, also on the busiest machine
          this.#schedule();
          break;
        }
        this.#put(record, above);
        drawn += 1;
      }
      above = record.row ?? above;
      if (record.row) {
        record.row.hidden = !isShown;
      }
      if (isShown) {
        this.#showTime(record, before);
        before = record;
        shown += 1;
      }
    }
    this.#finish(shown);
  }

  #put(record, above) {
    const row = makeRow(record, this.#titles.get(record.label), this.#controls.isList);
    record.row = row;
    this.#records.set(row, record);
    this.#pointer.learn(row, record);
    this.#fresh.push(row);
    const next = this.#nextOf(record, above);
    this.#rows.insertBefore(row, next);
  }

  /** The row before which a new row is put. Rows of records that are no longer kept can be between the others. */
  #nextOf({ time }, above) {
    let next = above ? above.nextElementSibling : this.#rows.firstElementChild;
    while (next && this.#gone.has(next) && this.#records.get(next).time <= time) {
      next = next.nextElementSibling;
    }
    return next;
  }

  #showTime(record, before) {
    const { sinceBefore } = this.#controls;
    const from = sinceBefore ? before?.time ?? record.time : this.#recording.base;
    const text = `${sinceBefore ? '+' : ''}${(record.time - from).toFixed(3)}`;
    if (record.shownTime !== text) {
      record.shownTime = text;
      record.row.querySelector('.wire-time').textContent = text;
    }
  }

  #finish(shown) {
    this.#stalePanels.forEach((panel) => panel.refresh());
    this.#stalePanels.clear();
    this.#rows.classList.toggle('of-one-lane', this.#controls.label !== undefined);
    this.#empty.hidden = shown > 0;
    this.#empty.replaceChildren(...this.#recording.records.length === 0
      ? this.#nothing : ['No row matches. Change the filter, or choose All.']);
    this.#controls.showStatus(shown, this.#recording.amount);
    this.#place.settle();
    this.#reveal();
    if (this.#isTrimDue()) {
      this.#schedule();
    }
  }

  /** Shows the row that `find` wants, if it is drawn, and holds the field with the id. */
  #reveal() {
    const { record, id } = this.#wanted ?? {};
    if (!record?.row?.isConnected) {
      return;
    }
    this.#wanted = undefined;
    this.#controls.isList && this.#pane.pick(record);
    const root = this.#controls.isList ? this.#pane.element : record.row;
    const { index } = record.fields.find((field) => idIn(field) === id) ?? record.fields[0];
    const field = root.querySelector(`.wire-field[data-field="${index}"]`);
    (field ?? record.row).scrollIntoView({ block: 'center' });
    field?.focus({ preventScroll: true });
    this.#place.look();
  }

  #scrolled() {
    this.#toEnd.hidden = this.#place.isAtEnd;
    if (this.#gone.size > 0) {
      this.#schedule(); // some of them may be out of sight now
    }
  }
}
