// The field that the reader looks at. Its bytes are lit in the text and in the hex of its row, and the line of detail
// describes it. Pointing lights a field. A click or an arrow key holds a field: the line of detail describes it while
// the pointer is at no other, so that the link in the line can be reached.

import { idIn } from './acts.js';

const STOPS = '.wire-field, .wire-bits';

export class Pointer {
  #list;
  #rows;
  #detail;
  #point;
  #records = new WeakMap(); // of a row
  #lit = undefined;
  #held = undefined;
  #stop = undefined; // the element that Tab leads to

  /** `point(id)` is called with the id of the message in the field, or undefined. */
  constructor(list, rows, detail, point) {
    [this.#list, this.#rows, this.#detail, this.#point] = [list, rows, detail, point];
    rows.addEventListener('pointerover', ({ target }) => this.#light(this.#at(target)));
    rows.addEventListener('pointerleave', () => this.#light(undefined));
    rows.addEventListener('focusin', ({ target }) => this.#hold(this.#at(target), target));
    rows.addEventListener('click', ({ target }) => this.#click(target));
    rows.addEventListener('keydown', (event) => this.#key(event));
    list.addEventListener('keydown', (event) => event.target === list && this.#enter(event));
  }

  /** Notes what a row shows. */
  learn(row, record) {
    this.#records.set(row, record);
  }

  release() {
    this.#mark(this.#held, 'is-held', false);
    this.#held = undefined;
    this.#detail.hold(undefined);
    this.#tell();
  }

  /** The field that an element shows. */
  #at(target) {
    const element = target.closest('[data-field]') ?? target.closest('.wire-line')?.querySelector('[data-field]');
    const row = element?.closest('.wire-row');
    const record = row && this.#records.get(row);
    const field = record?.fields[element.dataset.field];
    return field && { row, record, field };
  }

  #light(place) {
    if (place?.field !== this.#lit?.field) {
      this.#mark(this.#lit, 'is-lit', false);
      this.#mark(place, 'is-lit', true);
      this.#lit = place;
      this.#tell();
    }
  }

  #hold(place, target) {
    if (!place) {
      return;
    }
    this.#light(undefined); // until the pointer moves on
    this.#mark(this.#held, 'is-held', false);
    this.#mark(place, 'is-held', true);
    this.#held = place;
    this.#stop?.setAttribute('tabindex', '-1');
    this.#stop?.removeAttribute('aria-describedby');
    this.#stop = target.closest(STOPS) ?? undefined;
    this.#stop?.setAttribute('tabindex', '0');
    this.#stop?.setAttribute('aria-describedby', this.#detail.element.id);
    this.#detail.hold(place.record);
    this.#tell();
  }

  #mark(place, name, isOn) {
    place?.row.querySelectorAll(`[data-field="${place.field.index}"]`)
      .forEach((element) => element.classList.toggle(name, isOn));
  }

  #tell() {
    const field = this.#lit?.field ?? this.#held?.field;
    this.#point(field && idIn(field));
    if (field) {
      this.#detail.show(field);
    } else {
      this.#detail.clear();
    }
  }

  /** A click on hex holds the field too. */
  #click(target) {
    const place = target.closest('.wire-eight') && this.#at(target);
    place?.row.querySelector(`.wire-field[data-field="${place.field.index}"]`)?.focus({ preventScroll: true });
  }

  #key(event) {
    const { key, target } = event;
    const stop = target.closest(STOPS);
    if (key === 'Escape') {
      this.release();
      this.#list.focus({ preventScroll: true });
      return;
    }
    if (!stop || event.ctrlKey || event.altKey || event.metaKey) {
      return;
    }
    const next = this.#next(stop, key);
    if (next) {
      event.preventDefault();
      next.focus();
    }
  }

  #next(stop, key) {
    const row = stop.closest('.wire-row');
    const stops = [...row.querySelectorAll(STOPS)];
    const at = stops.indexOf(stop);
    switch (key) {
      case 'ArrowRight': return stops[at + 1];
      case 'ArrowLeft': return stops[at - 1];
      case 'Home': return stops[0];
      case 'End': return stops.at(-1);
      case 'ArrowDown': return this.#beside(row, 'nextElementSibling');
      case 'ArrowUp': return this.#beside(row, 'previousElementSibling');
      default: return undefined;
    }
  }

  /** The first field of the next row that is shown and has one. */
  #beside(row, way) {
    for (let other = row[way]; other; other = other[way]) {
      const first = !other.hidden && other.querySelector(STOPS);
      if (first) {
        return first;
      }
    }
    return undefined;
  }

  /** From the list, the arrow keys lead to the newest row. */
  #enter(event) {
    if (['ArrowRight', 'ArrowLeft'].includes(event.key) && this.#rows.lastElementChild) {
      const last = this.#rows.lastElementChild;
      const stop = (!last.hidden && last.querySelector(STOPS)) || this.#beside(last, 'previousElementSibling');
      event.preventDefault();
      stop?.focus();
    }
  }
}
