// The wire view: the bytes on the connections, as the tap shows them. Events are kept at once. They are drawn in
// portions, and only while the view is in sight. Rows in sight never move, except that a list at its end scrolls.

import { make } from '../dom.js';
import { escape } from './bytes.js';
import { Controls } from './controls.js';
import { FramePanel } from './frame-panel.js';
import { Recording } from './recording.js';
import { Place } from './place.js';
import { Pointer } from './pointer.js';
import { makeRow, showMore } from './row.js';
import { textOf } from './text.js';

const DRAWING = 24; // milliseconds of one portion
const BETWEEN = 50; // milliseconds from one portion to the next

const CLOSED = 'The tap cannot be opened: the server is away, or a proxy in front of it does not pass the field Upgrade, '
  + 'which a WebSocket needs. It is tried again.';

/** `hint` says what to do while there are no rows. */
export function mountWireView(root, { tap, lanes, hint = 'Start a lane, and its bytes appear here.' }) {
  const recording = new Recording(tap);
  const view = new WireView(root, recording, lanes, `Nothing yet. ${hint}`);
  tap.addEventListener('failed', () => view.nothing(CLOSED));
  tap.addEventListener('open', () => view.nothing(`Nothing yet. ${hint}`));
  return { show: (label) => view.show(label), watch: (label, lane) => recording.watch(label, lane) };
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
  #version = 0; // of the filters; a record notes the version for which it was judged
  #nothing;

  #rows = make('ol', { class: 'wire-rows' });
  #empty = make('p', { class: 'wire-empty' });
  #toEnd = make('button', { type: 'button', class: 'wire-to-end', hidden: true, onclick: () => this.#place.toEnd() },
    'To the newest');
  #list = make('div', { class: 'wire-list', role: 'region', 'aria-label': 'Bytes', tabindex: 0 },
    make('div', {}, this.#empty, this.#rows));
  #place = new Place(this.#list, this.#rows, () => this.#scrolled());
  #pointer = new Pointer(this.#list, this.#rows);

  constructor(root, recording, lanes, nothing) {
    this.#recording = recording;
    this.#nothing = nothing;
    this.#empty.textContent = nothing;
    this.#titles = new Map(lanes.map(({ label, title }) => [label, title]));
    this.#controls = new Controls(lanes);
    root.classList.add('wire-view');
    root.append(this.#controls.element, make('div', { class: 'wire-frame' }, this.#list, this.#toEnd),
      this.#pointer.element);
    this.#rows.addEventListener('click', ({ target }) => this.#press(target.closest('button')));
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
    on('copy', () => this.#copy());
    on('save', () => this.#save());
  }

  show(label) {
    this.#controls.choose(label);
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
    this.#version += 1;
    this.#take([...this.#gone]); // the new filters are not applied to these
    this.#schedule();
  }

  #clear() {
    this.#recording.clear();
    this.#rows.replaceChildren();
    this.#fresh = [];
    this.#gone.clear();
    this.#pointer.release();
    this.#controls.tell('');
    this.#place.toEnd();
  }

  async #copy() {
    const text = this.#asText();
    try {
      await navigator.clipboard.writeText(text);
      this.#controls.tell('Copied.');
    } catch (error) {
      this.#controls.tell(`Not copied: ${error.message}. Save as text works.`);
    }
  }

  #save() {
    const url = URL.createObjectURL(new Blob([this.#asText()], { type: 'text/plain' }));
    make('a', { href: url, download: `overwire-${this.#controls.label ?? 'all'}.txt` }).click();
    setTimeout(() => URL.revokeObjectURL(url), 60_000);
  }

  #asText() {
    return textOf(this.#recording.records.filter((record) => this.#matches(record)), this.#recording.base);
  }

  #press(button) {
    const row = button?.closest('.wire-row');
    const record = row && this.#records.get(row);
    if (!record) {
      return;
    }
    if (button.dataset.action === 'more') {
      showMore(row, record);
      row.querySelectorAll('.wire-bits').forEach((bits) => this.#reopen(bits, record.fields[bits.dataset.frame].frame));
    } else if (button.dataset.frame !== undefined) {
      this.#toggle(button, record.fields[button.dataset.frame].frame);
    }
    this.#place.look();
  }

  #toggle(button, frame) {
    const isOpen = button.getAttribute('aria-expanded') === 'true';
    button.setAttribute('aria-expanded', String(!isOpen));
    if (isOpen) {
      frame.panel.element.remove();
      frame.panel = undefined;
    } else {
      frame.panel = new FramePanel(frame);
      const line = button.closest('.wire-line');
      line.after(frame.panel.element);
      frame.panel.element.scrollIntoView({ block: 'nearest' });
      if (line.getBoundingClientRect().top < this.#list.getBoundingClientRect().top) {
        line.scrollIntoView({ block: 'start' }); // the button that closes it stays in sight
      }
    }
  }

  /** A row that was drawn again has lost its panels. */
  #reopen(button, { panel }) {
    if (panel) {
      button.setAttribute('aria-expanded', 'true');
      button.closest('.wire-line').after(panel.element);
    }
  }

  // Which rows are shown.

  #matches(record) {
    if (record.version !== this.#version) {
      record.version = this.#version;
      record.isMatch = this.#judge(record);
    }
    return record.isMatch;
  }

  #judge(record) {
    const { label, text, from, hidesKeepAlive } = this.#controls;
    const isOfLane = label === undefined || record.label === undefined || record.label === label;
    const isOfWay = !from || record.from === from;
    if (!isOfLane || !isOfWay || (hidesKeepAlive && record.isKeepAlive)) {
      return false;
    }
    record.words ??= [record.text ?? '', ...record.fields.flatMap((field) => (
      [field.name, escape(field.text), field.meaning]))].join('\n').toLowerCase();
    return record.words.includes(text);
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
    let shown = 0;
    for (const record of this.#recording.records) {
      const isShown = this.#matches(record);
      if (isShown && !record.row) {
        if (performance.now() > end) {
          this.#schedule();
          break;
        }
        this.#put(record, above);
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
    const row = makeRow(record, this.#titles.get(record.label));
    record.row = row;
    this.#records.set(row, record);
    this.#pointer.learn(row, record.fields);
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
    this.#empty.textContent = this.#recording.records.length === 0
      ? this.#nothing : 'No row matches. Change the filter, or choose All.';
    this.#controls.showStatus(this.#status(shown));
    this.#place.settle();
    if (this.#isTrimDue()) {
      this.#schedule();
    }
  }

  #status(shown) {
    const { records, bytes, dropped, waiting } = this.#recording.amount;
    const size = bytes < 1024 ? `${bytes} B` : `${(bytes / 1024).toFixed(1)} KiB`;
    return [
      `${shown} of ${records} rows`, size,
      dropped > 0 && `${dropped} older ones dropped`,
      waiting !== undefined && `paused: ${waiting} wait`,
    ].filter(Boolean).join(', ');
  }

  #scrolled() {
    this.#toEnd.hidden = this.#place.isAtEnd;
    if (this.#gone.size > 0) {
      this.#schedule(); // some of them may be out of sight now
    }
  }
}
