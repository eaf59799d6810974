// The tool "Chaos": faults on the way, for one lane or for all. The tap causes them; the lanes do not know of them.

import { followEnd, make } from '../dom.js';
import { Aftermath } from './aftermath.js';
import { FaultTable, confirmation, downControl, legend } from './chaos-controls.js';
import { DOWN, RESTART, STRIKES, SWITCHES, UP } from './faults.js';

const ALL = 'all lanes'; // the label of the row that stands for every lane
const LOG_LINES = 300;

/**
 * `note(label, text)` adds a line to the log of a lane. `forget()` makes the server forget everything; without it,
 * there is no button for that. `allowForget(is)` shows the button or hides it.
 */
export function mountChaos(root, { tap, lanes, note = () => {}, forget }) {
  const panel = new ChaosPanel(root, { tap, lanes, note, forget });
  return { watch: (label, lane) => panel.watch(label, lane), allowForget: (is) => panel.allowForget(is) };
}

class ChaosPanel {
  #tap;
  #note;
  #forget;
  #titles;
  #values = new Map(); // label -> the value of each switch
  #table;
  #aftermaths = new Map();
  #log = make('ol');
  #none;
  #status = make('p', { class: 'chaos-status', role: 'status' });
  #scroller;
  #toEnd;
  #dialog;
  #restart;

  constructor(root, { tap, lanes, note, forget }) {
    this.#tap = tap;
    this.#note = note;
    this.#forget = forget;
    this.#titles = new Map(lanes.map(({ label, title }) => [label, title]));
    for (const { label } of lanes) {
      this.#values.set(label, Object.fromEntries(SWITCHES.map(({ fault }) => [fault, 0])));
      this.#aftermaths.set(label, new Aftermath((kind, text) => this.#tell(label, kind, text),
        label !== 'webrtc')); // a data channel also brings messages that others sent another way
    }
    this.#none = make('p', { class: 'chaos-none' }, lanes.length > 1
      ? 'Nothing yet. Start a lane, and press Drop in its row.' : 'Nothing yet. Press Drop, and send a request.');
    const rows = lanes.length > 1 ? [{ label: ALL, title: 'All lanes' }, ...lanes] : lanes;
    this.#table = new FaultTable(rows, {
      set: (label, one, value) => this.#set(label, one, value),
      strike: (label, one) => this.#strike(label, one),
    });
    this.#dialog = confirmation(() => this.#forgetAll());
    this.#scroller = make('div', {
      class: 'chaos-log', tabindex: 0, role: 'log', 'aria-label': 'What happened',
    }, this.#none, this.#log);
    this.#toEnd = followEnd(this.#scroller);
    this.#append(root);
    this.allowForget(false);
    this.#listen();
  }

  watch(label, lane) {
    this.#aftermaths.get(label)?.watch(lane);
  }

  allowForget(is) {
    this.#restart.hidden = !is;
  }

  #append(root) {
    const faults = [...SWITCHES, ...STRIKES, DOWN, ...this.#forget ? [RESTART] : []];
    const { element, hint } = legend(root, { faults, withLanes: this.#titles.size > 1 });
    const button = (action, title, attributes) => (
      make('button', { type: 'button', 'data-action': action, ...attributes }, title));
    this.#restart = button('restart', `${RESTART.title} …`,
      { 'data-fault': RESTART.fault, onclick: () => this.#dialog.showModal() });
    const buttons = make('div', { class: 'chaos-buttons' },
      button('calm', 'Calm', { onclick: () => this.#calm() }), downControl((seconds) => this.#takeDown(seconds)),
      ...this.#forget ? [this.#restart] : [], hint);
    const happened = make('section', { class: 'chaos-happened' },
      make('div', { class: 'chaos-headline' }, make('h3', {}, 'What happened'), this.#status), this.#scroller);
    root.classList.add('chaos');
    root.append(
      make('fieldset', { class: 'chaos-fields' }, make('legend', { class: 'unseen' }, 'Faults'), buttons,
        this.#table.element),
      happened, element, this.#dialog);
  }

  // Commands.

  #set(label, one, value) {
    const labels = label === ALL ? [...this.#values.keys()] : [label];
    const words = `${one.title.toLowerCase()} ${value === 0 ? 'off' : one.text(value)}`;
    if (labels.some((each) => this.#values.get(each)[one.fault] !== value)) {
      this.#command(label, one.fault, words);
    }
    for (const each of labels) {
      if (this.#values.get(each)[one.fault] !== value) {
        this.#values.get(each)[one.fault] = value;
        this.#send({ label: each, fault: one.fault, value });
        this.#note(each, `Chaos: ${words}`);
      }
    }
    this.#show();
  }

  #strike(label, { fault, title }) {
    const labels = label === ALL ? [...this.#values.keys()] : [label];
    if (labels.map((each) => this.#send({ label: each, fault })).every(Boolean)) {
      const whom = this.#titles.get(label) ?? ALL;
      this.#command(label, fault, title.toLowerCase());
      this.#status.textContent = `${title}, ${whom}: strikes what is open now, else the next request.`;
    }
  }

  #takeDown(seconds) {
    if (this.#send({ fault: DOWN.fault, value: seconds })) {
      this.#command(undefined, DOWN.fault, `down for ${seconds} s`);
      this.#status.textContent = `${DOWN.title} for ${seconds} s.`;
    }
  }

  #calm() {
    this.#values.forEach((_, label) => SWITCHES.forEach((one) => this.#set(label, one, 0)));
    this.#status.textContent = 'Calm: every switch is off.';
  }

  #send(command) {
    const isSent = this.#tap.command(command) !== false;
    this.#status.textContent = isSent ? '' : 'Not sent: the tap is closed. Switches are sent when it opens again.';
    return isSent;
  }

  async #forgetAll() {
    this.#status.textContent = '';
    try {
      await this.#forget();
      this.#struck(undefined, RESTART.fault);
    } catch (error) {
      this.#status.textContent = `Not restarted: ${error.message}.`;
    }
  }

  /** Sets every control to its value. The control of all lanes is mixed when the lanes differ. */
  #show() {
    for (const { fault } of SWITCHES) {
      this.#values.forEach((values, label) => this.#table.show(label, fault, values[fault]));
      if (this.#values.size > 1) {
        const different = new Set([...this.#values.values()].map((values) => values[fault]));
        this.#table.show(ALL, fault, different.size === 1 ? [...different][0] : undefined);
      }
    }
  }

  /** Notes a command, so that the cause comes before its effects. A slider that moves on leaves one line. */
  #command(label, fault, words) {
    const what = `${label} ${fault}`;
    const last = this.#log.lastElementChild;
    last?.dataset.command === what && SWITCHES.some((one) => one.fault === fault) && last.remove();
    this.#tell(label === ALL ? 'All lanes' : label ?? 'Server', 'fault', words);
    this.#log.lastElementChild.dataset.command = what;
  }

  // Events.

  #listen() {
    this.#tap.addEventListener('open', () => {
      this.#status.textContent = '';
      this.#values.forEach((values, label) => {
        Object.entries(values).filter(([, value]) => value !== 0)
          .forEach(([fault, value]) => this.#send({ label, fault, value })); // the tap forgot them with the last socket
      });
    });
    this.#tap.addEventListener('struck', ({ detail: { label, fault } }) => this.#struck(label, fault));
    this.#tap.addEventListener('error', ({ detail }) => this.#tell('Tap', 'problem', detail.error));
  }

  /** Without a label, the fault struck every lane. */
  #struck(label, fault) {
    const happened = [...STRIKES, DOWN, UP, RESTART].find((one) => one.fault === fault)?.happened ?? fault;
    this.#tell(label ?? 'Server', fault === UP.fault ? 'good' : 'struck', happened);
    this.#aftermaths.forEach((aftermath, each) => {
      if (label !== undefined && each !== label) {
        return;
      }
      if (fault !== UP.fault) {
        aftermath.strike(fault);
      }
      this.#note(each, `Chaos: ${happened}`);
    });
  }

  /** `who` is the label of a lane, or a name. */
  #tell(who, kind, text) {
    const now = new Date();
    const time = `${now.toTimeString().slice(0, 8)}.${String(now.getMilliseconds()).padStart(3, '0')}`;
    this.#none.hidden = true;
    this.#log.append(make('li', { 'data-kind': kind, 'data-row': this.#titles.has(who) && who },
      make('time', { datetime: now.toISOString() }, time), ' ',
      make('b', {}, this.#titles.get(who) ?? who), ' ', make('span', {}, text)));
    while (this.#log.childElementCount > LOG_LINES) {
      this.#log.firstElementChild.remove();
    }
    this.#toEnd();
  }
}
