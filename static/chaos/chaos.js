// The dock "Chaos": what can go wrong on the way, switched on by hand, for one lane or for all. The server does it to
// the tapped connections (started with --chaos); the lanes do not know.

import { Aftermath } from './aftermath.js';
import { FaultTable, confirmation, legend } from './chaos-controls.js';
import { make } from '../dom.js';
import { RESTART, STRIKES, SWITCHES } from './faults.js';

const ALL = 'all lanes'; // the label of a row that stands for each
const LOG_LINES = 300;

export function mountChaos(root, { tap, lanes, note }) {
  const panel = new ChaosPanel(root, tap, lanes, note);
  return { watch: (label, lane) => panel.watch(label, lane) };
}

class ChaosPanel {
  #tap;
  #note;
  #titles;
  #values = new Map(); // by label: the value of each switch
  #table;
  #aftermaths = new Map();
  #log = make('ol');
  #none = make('p', { class: 'chaos-none' }, 'Nothing yet. Start a lane, and press Drop in its row.');
  #status = make('p', { class: 'chaos-status', role: 'status' });
  #scroller;
  #dialog;
  #fields;

  constructor(root, tap, lanes, note) {
    this.#tap = tap;
    this.#note = note ?? (() => {});
    this.#titles = new Map(lanes.map(({ label, title }) => [label, title]));
    for (const { label } of lanes) {
      this.#values.set(label, Object.fromEntries(SWITCHES.map(({ fault }) => [fault, 0])));
      this.#aftermaths.set(label, new Aftermath((kind, text) => this.#tell(label, kind, text),
        label !== 'webrtc')); // a channel also brings messages of which some go another way
    }
    this.#table = new FaultTable([{ label: ALL, title: 'All lanes' }, ...lanes], {
      set: (label, one, value) => this.#set(label, one, value),
      strike: (label, one) => this.#strike(label, one),
    });
    this.#dialog = confirmation(() => this.#send({ fault: RESTART.fault }));
    this.#scroller = make('div', {
      class: 'chaos-log', tabindex: 0, role: 'log', 'aria-label': 'What happened',
    }, this.#none, this.#log);
    this.#fields = make('fieldset', { class: 'chaos-fields' }, make('legend', { class: 'unseen' }, 'Faults'),
      this.#buttons(), this.#table.element);
    root.classList.add('chaos');
    const happened = make('section', { class: 'chaos-happened' },
      make('div', { class: 'chaos-headline' }, make('h3', {}, 'What happened'), this.#status), this.#scroller);
    const { element, hint } = legend(root);
    this.#fields.querySelector('.chaos-buttons').append(hint);
    root.append(this.#fields, happened, element, this.#dialog);
    this.#listen();
    this.#allowed();
  }

  watch(label, lane) {
    this.#aftermaths.get(label)?.watch(lane);
  }

  #buttons() {
    const button = (action, title, onclick) => (
      make('button', { type: 'button', 'data-action': action, onclick }, title));
    const restart = button('restart', `${RESTART.title} …`, () => this.#dialog.showModal());
    restart.dataset.fault = RESTART.fault;
    return make('div', { class: 'chaos-buttons' }, button('calm', 'Calm', () => this.#calm()), restart);
  }

  // What is done.

  #set(label, one, value) {
    const labels = label === ALL ? [...this.#values.keys()] : [label];
    for (const each of labels) {
      if (this.#values.get(each)[one.fault] !== value) {
        this.#values.get(each)[one.fault] = value;
        this.#send({ label: each, fault: one.fault, value });
        this.#note(each, `Chaos: ${one.title.toLowerCase()} ${value === 0 ? 'off' : one.text(value)}`);
      }
    }
    this.#show();
  }

  #strike(label, { fault, title }) {
    const labels = label === ALL ? [...this.#values.keys()] : [label];
    if (labels.map((each) => this.#send({ label: each, fault })).every(Boolean)) {
      const whom = label === ALL ? ALL : this.#titles.get(label);
      this.#status.textContent = `${title}, ${whom}: strikes what is open now, else the next request.`;
    }
  }

  #calm() {
    SWITCHES.forEach((one) => this.#set(ALL, one, 0));
    this.#status.textContent = 'Calm: every switch is off.';
  }

  #send(command) {
    const isSent = this.#tap.command(command) !== false;
    this.#status.textContent = isSent ? '' : 'Not sent: the tap is closed. Switches are sent when it opens again.';
    return isSent;
  }

  /** Puts every control where its value is; those of all lanes are mixed when the lanes differ. */
  #show() {
    for (const { fault } of SWITCHES) {
      this.#values.forEach((values, label) => this.#table.show(label, fault, values[fault]));
      const different = new Set([...this.#values.values()].map((values) => values[fault]));
      this.#table.show(ALL, fault, different.size === 1 ? [...different][0] : undefined);
    }
  }

  #allowed() {
    this.#fields.disabled = !this.#tap.chaos;
    if (!this.#tap.chaos) {
      this.#status.textContent = 'Off: the server was not started with --chaos.';
    }
  }

  // What happens.

  #listen() {
    this.#tap.addEventListener('open', () => {
      this.#status.textContent = '';
      this.#allowed();
      this.#values.forEach((values, label) => {
        Object.entries(values).filter(([, value]) => value !== 0)
          .forEach(([fault, value]) => this.#send({ label, fault, value })); // with the tap the server forgot them
      });
    });
    this.#tap.addEventListener('struck', ({ detail: { label, fault } }) => this.#struck(label, fault));
    this.#tap.addEventListener('error', ({ detail }) => this.#tell(undefined, 'problem', detail.error));
  }

  #struck(label, fault) {
    const isRestart = fault === RESTART.fault; // of all lanes, and without a label
    const happened = [...STRIKES, RESTART].find((one) => one.fault === fault)?.happened ?? fault;
    this.#tell(isRestart ? undefined : label, 'struck', happened);
    this.#aftermaths.forEach((aftermath, each) => {
      if (isRestart || each === label) {
        aftermath.strike(fault);
        this.#note(each, `Chaos: ${happened}`);
      }
    });
  }

  #tell(label, kind, text) {
    const now = new Date();
    const time = `${now.toTimeString().slice(0, 8)}.${String(now.getMilliseconds()).padStart(3, '0')}`;
    const wasAtEnd = this.#scroller.scrollHeight - this.#scroller.scrollTop - this.#scroller.clientHeight < 8;
    this.#none.hidden = true;
    this.#log.append(make('li', { 'data-kind': kind, 'data-row': label },
      make('time', { datetime: now.toISOString() }, time), ' ',
      make('b', {}, this.#titles.get(label) ?? label ?? 'Server'), ' ', make('span', {}, text)));
    while (this.#log.childElementCount > LOG_LINES) {
      this.#log.firstElementChild.remove();
    }
    if (wasAtEnd) {
      this.#scroller.scrollTop = this.#scroller.scrollHeight;
    }
  }
}
