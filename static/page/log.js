// The log of a lane. New entries go in once per frame of the display, not once per message, and only the newest are
// kept: 10,000 messages cost little more than 200. Every entry is text: what a stranger typed is never markup.

import { asText } from './deliveries.js';
import { make } from '../dom.js';

export const ENTRIES = 200;
const FRAMELESS = 1000; // milliseconds without a frame, as in a page that is not shown
const FEW = 12; // entries of one frame that flash; more are a flood

export class Log {
  #list;
  #scroller;
  #marks;
  #older;
  #pending = [];
  #shown = []; // entries in the list, oldest first
  #entries = new WeakMap(); // message -> its entry
  #atEnd = true;
  #top = 0; // the last known scroll position
  #timer = undefined;
  #frame = undefined;
  #unseen = false; // the list was changed between two frames

  /**
   * `list` is an `ol` within `scroller`; `older` says that older messages are not shown. `showBytes(id)` is called for
   * an entry whose id is clicked on, or on which Enter is pressed.
   */
  constructor({ list, scroller, older }, marks, showBytes = () => {}) {
    list.addEventListener('click', ({ target }) => target.matches('code') && showBytes(target.title));
    list.addEventListener('keydown', ({ key, target }) => key === 'Enter' && target.dataset.id && showBytes(target.dataset.id));
    this.#list = list;
    this.#scroller = scroller;
    this.#older = older;
    this.#marks = marks;
    scroller.addEventListener('scroll', () => {
      const { scrollTop } = scroller;
      const isNear = scroller.scrollHeight - scrollTop - scroller.clientHeight < 8;
      // The end is also farther away when the log has become lower: only scrolling up leaves it.
      this.#atEnd = isNear || (this.#atEnd && scrollTop >= this.#top);
      this.#top = scrollTop;
    });
    scroller.addEventListener('keydown', (event) => this.#move(event));
    new ResizeObserver(() => this.#toEnd()).observe(scroller);
  }

  /** Adds a message and returns its entry. The caller sets `past` at once if the message comes from the history. */
  message(message) {
    const entry = { kind: 'message', time: new Date(), message, text: message.text, past: false };
    this.#entries.set(message, entry);
    this.#add(entry);
    return entry;
  }

  /** Adds a line of the page itself. `kind` is `problem`, `notice` or `note`. */
  line(kind, text) {
    this.#add({ kind, time: new Date(), text });
  }

  /** The delay of a message became known. */
  delivered(message, delay) {
    const entry = this.#entries.get(message);
    if (entry) {
      entry.delay = delay;
      entry.cell?.append(asText(delay));
    }
  }

  clear() {
    this.#pending = [];
    this.#shown.forEach((entry) => this.#remove(entry));
    this.#shown = [];
    this.#older.hidden = true;
    this.#atEnd = true;
  }

  #add(entry) {
    this.#pending.push(entry);
    if (this.#pending.length > 2 * ENTRIES) {
      this.#pending.splice(0, ENTRIES); // these would be shown for one frame at most
    }
    this.#soon();
  }

  #soon() {
    if (this.#timer === undefined) {
      this.#timer = setTimeout(() => {
        this.#unseen = true;
        this.#flush();
      }, FRAMELESS);
      this.#nextFrame();
    }
  }

  #nextFrame() {
    this.#frame = requestAnimationFrame(() => {
      if (this.#unseen) { // this frame shows the earlier change
        this.#unseen = false;
        this.#nextFrame();
      } else {
        this.#flush();
      }
    });
  }

  /**
   * Adds entries or removes entries, never both in one frame: adding scrolls the log, removing keeps what is seen in
   * its place. Both together would be a layout shift.
   */
  #flush() {
    clearTimeout(this.#timer);
    cancelAnimationFrame(this.#frame);
    this.#timer = undefined;
    const surplus = this.#shown.length - ENTRIES;
    if (surplus > 0) {
      this.#trim(surplus);
    } else {
      this.#put(this.#pending.splice(0).slice(-ENTRIES));
    }
    if (this.#pending.length > 0 || this.#shown.length > ENTRIES) {
      this.#soon();
    }
  }

  #put(entries) {
    this.#list.append(...entries.map((entry) => this.#show(entry)));
    this.#shown.push(...entries);
    this.#toEnd();
    if (entries.length <= FEW) {
      entries.forEach(({ message, past }) => message && !past && this.#marks.flash(message.id));
    }
  }

  #trim(surplus) {
    const { scrollHeight, scrollTop } = this.#scroller;
    this.#shown.splice(0, surplus).forEach((entry) => this.#remove(entry));
    this.#older.hidden = false;
    this.#scroller.scrollTop = scrollTop - (scrollHeight - this.#scroller.scrollHeight);
  }

  #show(entry) {
    const { kind, text, message, past, delay } = entry;
    const time = past ? new Date(message.timestamp * 1000) : entry.time;
    const element = make('li', { 'data-kind': kind, tabindex: -1 },
      make('time', { datetime: time.toISOString(), title: time.toLocaleString() }, ...clock(time)));
    const body = make('p', {}, make('span', { dir: 'auto' }, text)); // a change of direction ends with its span
    if (message?.sender !== undefined) {
      body.prepend(make('b', { dir: 'auto' }, message.sender), ' ');
    }
    element.append(body);
    if (message?.id !== undefined) {
      element.dataset.id = message.id;
      element.append(make('code', { title: message.id }, message.id.slice(-6)));
      this.#marks.add(message.id, element);
    }
    if (message) {
      const shown = message.own ? 'own' : past ? 'history' : delay === undefined ? '' : asText(delay);
      const title = message.own ? 'Sent by this lane, to others'
        : past ? 'Sent before this lane was started' : 'Delay';
      entry.cell = make('data', { title }, shown);
      element.append(entry.cell);
    }
    entry.element = element;
    return element;
  }

  #remove({ element, message }) {
    element.remove();
    if (message) {
      this.#marks.remove(message.id, element);
    }
  }

  #toEnd() {
    if (this.#atEnd) {
      this.#scroller.scrollTop = this.#scroller.scrollHeight;
      this.#top = this.#scroller.scrollTop;
    }
  }

  /** The arrow keys go from entry to entry: with Tab they would be too many stops. */
  #move(event) {
    const current = event.target.closest('li');
    const [first, last] = [this.#shown[0]?.element, this.#shown.at(-1)?.element];
    const to = {
      ArrowUp: () => current ? current.previousElementSibling : last,
      ArrowDown: () => current?.nextElementSibling,
      Home: () => first,
      End: () => last,
      Escape: () => this.#scroller,
    }[event.key]?.();
    if (to) {
      event.preventDefault();
      to.focus();
    }
  }
}

/** The time of day. The milliseconds are a separate element, which narrow logs leave out. */
function clock(time) {
  return [time.toTimeString().slice(0, 8),
    make('small', {}, `.${String(time.getMilliseconds()).padStart(3, '0')}`)];
}
