// The panel of one lane: its title, its facts, its log, and a form to send through it. The panel stays while its lane
// object is replaced, when the room changes. What the page does with the panels is in app.js.

import { Facts } from './facts.js';
import { Log } from './log.js';

/** What to do next, while the log is empty, by the state of the lane. */
const NEXT = { stopped: 'Press Start.', open: 'Send something.', holding: 'Send something.' };

export class Panel {
  element = document.querySelector('#panel').content.firstElementChild.cloneNode(true);
  lane = undefined;
  /** Whether the lane is started, whatever its state. */
  running = false;

  #Lane;
  #act;
  #isolated;
  #log;
  #deliveries;
  #facts = new Facts((name) => this.part(name), (text) => this.note(text));
  #isAllowed = true;
  #since = undefined; // the moment when the lane was started; what was sent before is history

  /**
   * `act` has what the page does: start(panel), send(panel, text), frames(panel) to send frames by hand, bytes(label),
   * message(label, id) to show the bytes of a message, explain(panel, problem), state(panel) and running(panel) after a
   * change of these, news(message) for a message that is not history, and refused(panel, error) when the server refuses
   * the lane.
   */
  constructor(Lane, { isolated, marks, deliveries, act }) {
    this.#Lane = Lane;
    this.#act = act;
    this.#isolated = isolated;
    this.#deliveries = deliveries;
    this.element.dataset.lane = this.label;
    this.element.setAttribute('aria-label', Lane.title);
    this.part('title').textContent = Lane.title;
    this.part('how').textContent = Lane.how;
    this.part('how').title = Lane.about;
    this.part('about').textContent = Lane.about;
    this.part('scroller').setAttribute('aria-label', `Log of ${Lane.title}`);
    this.part('text').setAttribute('aria-label', `Message to send by ${Lane.title}`);
    this.part('bytes').setAttribute('aria-label', `Bytes of ${Lane.title}`);
    this.#log = new Log({ list: this.part('log'), scroller: this.part('scroller'), older: this.part('older') }, marks,
      (id) => act.message(this.label, id));
    this.#showRunning();

    this.part('toggle').addEventListener('click', () => this.running ? this.lane.stop() : act.start(this));
    this.part('frames').hidden = Lane.prototype.sendBinary === undefined;
    this.part('frames').addEventListener('click', () => act.frames(this));
    this.part('bytes').addEventListener('click', () => act.bytes(this.label));
    this.part('retry').addEventListener('click', () => this.#retry());
    this.part('dismiss').addEventListener('click', () => {
      this.part('notice').hidden = true;
      this.part('scroller').focus();
    });
    this.part('form').addEventListener('submit', (event) => this.#submit(event));
    deliveries.addEventListener('delivery', ({ detail }) => {
      if (detail.label === this.label) {
        this.#log.delivered(detail.message, detail.delay);
      }
    });
  }

  get label() {
    return this.#Lane.lane;
  }

  get title() {
    return this.#Lane.title;
  }

  /** Whether it holds one of the six connections for as long as it is connected. */
  get keeps() {
    return this.#Lane.holds === true;
  }

  part(name) {
    return this.element.querySelector(`[data-part="${name}"]`);
  }

  /** Replaces the lane by a new one, which is stopped. */
  renew(options) {
    const lane = new this.#Lane(options);
    this.lane = lane;
    this.#since = undefined;
    this.#facts.clear();
    this.#log.clear();
    this.part('notice').hidden = true;
    this.#facts.id(lane.id);
    this.#showState('stopped', 'stopped');
    const on = (name, act) => lane.addEventListener(name, ({ detail }) => lane === this.lane && act(detail));
    on('state', ({ state, text, wait }) => this.#showState(state, text, wait));
    on('id', () => this.#facts.id(lane.id));
    on('message', (message) => this.#received(message));
    on('wire', ({ what }) => what === 'heartbeat' && this.#facts.beat());
    on('note', (text) => this.note(text));
    on('problem', (text) => this.note(this.#act.explain(this, text), 'problem'));
    on('refused', (error) => this.#act.refused(this, error));
    on('notice', (text) => {
      this.note(text, 'notice');
      this.part('missing').textContent = text; // here too: later entries can push it out of the log
      this.part('missing').title = text;
      this.part('notice').hidden = false;
    });
    return lane;
  }

  start() {
    this.part('notice').hidden = true;
    if (!this.running) {
      this.#since = this.#deliveries.moment(this.label);
    }
    this.lane.start();
  }

  /** Does not wait any longer. The lane continues after the last message that it has. */
  #retry() {
    this.lane.stop();
    this.#act.start(this);
    this.part('toggle').focus();
  }

  /** Sends through the lane, and notes when. Rejects with the reason if it was not sent. */
  async send(sender, text, id) {
    // A message that already has an id also went another way. A message to a mailbox goes no other way.
    const label = this.#isolated || id !== undefined ? this.label : undefined;
    const sent = this.#deliveries.sending(sender, text, label, id);
    let known = id;
    try {
      known = await this.lane.send(sender, text, id) ?? id;
      this.#facts.count('sent');
      return known;
    } finally {
      sent(known);
    }
  }

  /** Whether requests are allowed. */
  allow(isAllowed) {
    this.#isAllowed = isAllowed;
    this.element.querySelectorAll('[data-part="toggle"], form *').forEach((control) => { control.disabled = !isAllowed; });
    this.#showNext();
  }

  #showNext() {
    this.part('next').textContent = this.#isAllowed ? NEXT[this.element.dataset.state] ?? '' : 'Log in first.';
  }

  /** Adds a line of the page itself to the log. */
  note(text, kind = 'note') {
    this.#log.line(kind, text);
  }

  #received(message) {
    const entry = this.#log.message(message);
    if (message.own) {
      return;
    }
    this.#facts.count('received');
    entry.past = !this.#deliveries.arrived(this.label, message, this.#since);
    entry.past || this.#act.news(message);
  }

  async #submit(event) {
    event.preventDefault();
    const field = this.part('text');
    const text = field.value;
    field.value = '';
    try {
      await this.#act.send(this, text);
    } catch (error) {
      field.value ||= text; // not lost, unless something else has been typed meanwhile
      this.note(`Sending failed: ${error.message}`, 'problem');
    }
  }

  #showState(state, text, wait) {
    this.element.dataset.state = state;
    this.#facts.state(text, wait);
    this.#showNext();
    // A lane also stops and starts by itself, when the browser keeps the page for the back button and shows it again.
    if (this.running !== (state !== 'stopped')) {
      this.running = !this.running;
      this.#showRunning();
      this.#act.running(this);
    }
    this.#act.state(this);
  }

  #showRunning() {
    const action = this.running ? 'stop' : 'start';
    const button = this.part('toggle');
    button.dataset.action = action;
    button.textContent = this.running ? 'Stop' : 'Start';
    button.setAttribute('aria-label', `${button.textContent} ${this.title}`);
  }
}
