// The buttons and fields above the rows of the wire view. They choose the lane and the rows, and act on the rows.

import { make } from '../dom.js';
import { keep, recall } from '../page/kept.js';
import { countOf } from './bytes.js';

const HINTS = {
  'hide keep-alive': 'Heartbeats, and polls that brought nothing',
  hex: 'The bytes as hex, and as characters',
  list: 'One line for each row, and the chosen row beside them',
};

export class Controls extends EventTarget {
  /** Undefined for all lanes. */
  label = undefined;
  text = '';
  from = '';
  hidesKeepAlive = false;
  /** Whether each row is one line, and the chosen one is shown beside the list. */
  isList = recall('list') === 'true';
  sinceBefore = false;

  #lanes;
  #pause;
  #status = make('p', { class: 'wire-status' });
  #told = make('p', { class: 'wire-told', role: 'status' });

  constructor(lanes) {
    super();
    const press = (label) => () => this.choose(label);
    this.#lanes = new Map([{ label: undefined, title: 'All' }, ...lanes].map(({ label, title }) => (
      [label, make('button', { type: 'button', 'aria-pressed': 'false', 'data-shows': label ?? 'all',
        onclick: press(label) }, title)])));
    this.#pause = this.#button('pause', 'Pause');
    this.element = make('div', { class: 'wire-controls' },
      make('div', { class: 'wire-top' },
        ...lanes.length === 0 ? []
          : [make('div', { class: 'wire-lanes', role: 'group', 'aria-label': 'Lane' }, ...this.#lanes.values())],
        make('div', { class: 'wire-buttons' }, this.#pause, this.#button('clear', 'Clear'))),
      make('div', { class: 'wire-tools' },
        make('input', { type: 'search', 'aria-label': 'Filter', placeholder: 'Filter', autocomplete: 'off',
          spellcheck: 'false', oninput: ({ target }) => this.#set({ text: target.value.toLowerCase() }) }),
        this.#select('Direction', [['', 'Both directions'], ['client', 'Client to server'],
          ['server', 'Server to client']], (from) => this.#set({ from })),
        this.#select('Time', [['first', 'Since the first'], ['before', 'Since the one before']],
          (value) => this.#set({ sinceBefore: value === 'before' })),
        this.#checkbox('hide keep-alive', false, (hidesKeepAlive) => this.#set({ hidesKeepAlive })),
        this.#checkbox('hex', true, (isShown) => this.#say('hex', isShown)),
        this.#checkbox('list', recall('list') === 'true', (isList) => {
          keep('list', isList);
          this.#set({ isList });
          this.#say('layout');
        }),
        make('div', { class: 'wire-line-of-status' }, this.#status, this.#told),
        make('div', { class: 'wire-buttons' }, this.#button('copy', 'Copy'), this.#button('save', 'Save as text'),
          this.#button('har', 'Save as HAR'))));
    this.#press();
  }

  choose(label) {
    this.label = this.#lanes.has(label) ? label : undefined;
    this.#press();
    this.#say('lane');
  }

  showPaused(isPaused) {
    this.#pause.textContent = isPaused ? 'Resume' : 'Pause';
  }

  /** Shows the number of rows that are shown, and what is kept: the amount of a recording. */
  showStatus(shown, { records, bytes, dropped, waiting }) {
    const size = bytes < 1024 ? `${bytes} B` : `${(bytes / 1024).toFixed(1)} KiB`;
    this.#status.textContent = [
      shown === records ? countOf(records, 'row') : `${shown} of ${countOf(records, 'row')}`, size,
      dropped > 0 && `${dropped} older ones dropped`,
      waiting !== undefined && (waiting > 0 ? `paused: ${waiting} wait` : 'paused'),
    ].filter(Boolean).join(', ');
  }

  /** Shows the result of a button. */
  tell(text) {
    this.#told.textContent = text;
  }

  #press() {
    for (const [label, button] of this.#lanes) {
      button.setAttribute('aria-pressed', String(label === this.label));
    }
  }

  #set(change) {
    Object.assign(this, change);
    this.#say('change');
  }

  #say(type, detail) {
    this.dispatchEvent(new CustomEvent(type, { detail }));
  }

  #button(action, title) {
    return make('button', { type: 'button', 'data-action': action, onclick: () => this.#say(action) }, title);
  }

  #select(name, choices, act) {
    return make('select', { 'aria-label': name, onchange: ({ target }) => act(target.value) },
      ...choices.map(([value, title]) => make('option', { value }, title)));
  }

  #checkbox(title, checked, act) {
    const box = make('input', { type: 'checkbox', checked, onchange: ({ target }) => act(target.checked) });
    return make('label', { title: HINTS[title] }, box, ` ${title}`);
  }
}
