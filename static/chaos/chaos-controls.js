// The controls of the chaos panel: the table, the buttons, the legend, and the question before a restart. What they do
// is in chaos.js.

import { make } from '../dom.js';
import { DOWN, RESTART, STRIKES, SWITCHES } from './faults.js';

const HINT = 'Choose a fault, send a message meanwhile, and see whether anything is lost. The first four stay until '
  + 'they are off, the others strike once.';

/** A row for each of `rows` ({ label, title }). It calls `set(label, one, value)` and `strike(label, one)`. */
export class FaultTable {
  #shown = new Map(); // label and fault -> the function that sets the control to a value
  #act;

  constructor(rows, act) {
    this.#act = act;
    const column = ({ title, fault }) => make('th', { scope: 'col', 'data-fault': fault }, title);
    const first = rows.length > 1 ? 'Lane' : 'Where';
    this.element = make('div', { class: 'chaos-scroller', tabindex: 0, role: 'region', 'aria-label': 'Faults' },
      make('table', { class: 'chaos-table' },
        make('thead', {}, make('tr', {},
          make('th', { scope: 'col' }, first), ...[...SWITCHES, ...STRIKES].map(column))),
        make('tbody', {}, ...rows.map((row) => this.#row(row)))));
  }

  /** Shows the value of a control. Without a value: the lanes differ. */
  show(label, fault, value) {
    this.#shown.get(`${fault} ${label}`)(value);
  }

  #row({ label, title }) {
    const lane = make('th', { scope: 'row' }, title);
    if (label === 'webrtc') {
      lane.append(make('small', {}, 'signalling only'));
    }
    const cell = (one, control) => make('td', { 'data-fault': one.fault }, control);
    return make('tr', { 'data-row': label }, lane,
      ...SWITCHES.map((one) => {
        const set = (value) => this.#act.set(label, one, value);
        const { element, show } = controlOf(one)(one, `${one.title}, ${title}`, set);
        this.#shown.set(`${one.fault} ${label}`, show);
        show(0);
        return cell(one, element);
      }),
      ...STRIKES.map((one) => cell(one, make('button', {
        type: 'button', 'aria-label': `${one.title}, ${title}`, onclick: () => this.#act.strike(label, one),
      }, one.title))));
  }
}

const controlOf = ({ fault, steps }) => fault === 'delay' ? slider : steps.length === 2 ? onOff : choice;
const textOf = (one, value) => value === undefined ? 'mixed' : value === 0 ? 'off' : one.text(value);

function slider(one, name, set) {
  const last = one.steps.length - 1;
  const input = make('input', { type: 'range', min: 0, max: last, value: 0, 'aria-label': name });
  const output = make('output');
  input.addEventListener('input', () => set(one.steps[input.value]));
  return {
    element: make('span', { class: 'chaos-slider' }, input, output),
    show(value) {
      input.value = Math.max(0, one.steps.indexOf(value));
      input.setAttribute('aria-valuetext', textOf(one, value));
      output.textContent = textOf(one, value);
      output.classList.toggle('on', value !== 0);
    },
  };
}

function onOff(one, name, set) {
  const element = make('input', { type: 'checkbox', role: 'switch', class: 'chaos-switch', 'aria-label': name });
  element.addEventListener('change', () => set(element.checked ? 1 : 0));
  return {
    element,
    show(value) {
      element.checked = value === 1;
      element.indeterminate = value === undefined;
    },
  };
}

function choice(one, name, set) {
  const mixed = make('option', { value: '', hidden: true }, textOf(one, undefined));
  const element = make('select', { 'aria-label': name }, mixed,
    ...one.steps.map((step) => make('option', { value: step }, textOf(one, step))));
  element.addEventListener('change', () => set(Number(element.value)));
  return {
    element,
    show(value) {
      element.value = value ?? '';
      element.classList.toggle('on', value !== 0);
    },
  };
}

/** The button that takes the server down, and the seconds for which it does. It calls `act(seconds)`. */
export function downControl(act) {
  const seconds = make('select', { 'aria-label': `${DOWN.title}, seconds` },
    ...DOWN.seconds.map((value) => make('option', { value, selected: value === 5 }, `for ${value} s`)));
  return make('span', { class: 'chaos-down', 'data-fault': DOWN.fault },
    make('button', { type: 'button', 'data-action': 'down', onclick: () => act(Number(seconds.value)) }, DOWN.title),
    seconds);
}

/**
 * The explanations of the faults. The one that the pointer or the focus is at, anywhere in `root`, is highlighted, and
 * `hint` shows it too, because the list may be out of sight. `withLanes` adds what a lane does.
 */
export function legend(root, { withLanes, faults }) {
  const entries = faults.map(({ fault, title, imitates, lane }) => make('div', { 'data-fault': fault },
    make('dt', {}, title), make('dd', {}, withLanes ? `${imitates} ${lane}` : imitates)));
  const hint = make('p', { class: 'chaos-hint' }, HINT);
  const point = ({ target }) => {
    const fault = target.closest('[data-fault]')?.dataset.fault;
    entries.forEach((entry) => entry.classList.toggle('pointed', entry.dataset.fault === fault));
    const pointed = entries.find((entry) => entry.dataset.fault === fault);
    hint.textContent = pointed ? pointed.lastChild.textContent : HINT;
  };
  root.addEventListener('pointerover', point);
  root.addEventListener('focusin', point);
  const list = make('dl', { class: 'chaos-legend' }, ...entries);
  return { element: make('section', {}, make('h3', {}, 'What it imitates'), list), hint };
}

/** The question before the data of others are lost. */
export function confirmation(act) {
  const close = (then) => () => {
    dialog.close();
    then?.();
  };
  const dialog = make('dialog', { class: 'chaos-dialog', 'aria-labelledby': 'chaos-restart' },
    make('h3', { id: 'chaos-restart' }, `${RESTART.title}?`),
    make('p', {}, 'Rooms, mailboxes and clients are forgotten, and every connection is reset, also those of others.'),
    make('div', { class: 'chaos-buttons' },
      make('button', { type: 'button', 'data-action': 'keep', onclick: close() }, 'Keep it'),
      make('button', { type: 'button', 'data-action': 'confirm', onclick: close(act) }, 'Restart')));
  return dialog;
}
