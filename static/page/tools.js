// The tools of the dock, which look at the lanes through the tap: Bytes, Compare and Chaos.

import { mountChaos } from '../chaos/chaos.js';
import { mountCompare } from '../compare/compare.js';
import { make } from '../dom.js';
import { urlOf } from '../lanes/urls.js';
import { request, whole } from '../overwire.js';
import { mountWireView } from '../wire/wire-view.js';
import { Dock } from './dock.js';

const ANSWER = 10_000; // milliseconds without a byte after which a request is given up

export class Tools {
  #dock = new Dock();
  #bytes;
  #compare;
  #chaos;

  /**
   * `lanes` are { label, title } of the lanes in a room. `publish(text)` sends to the room, and `note(label, text)`
   * adds a line to the log of a lane. `marks` are the entries of each message in the lanes.
   */
  constructor({ tap, lanes, deliveries, publish, note, marks }) {
    const element = (id) => document.getElementById(id);
    const messages = { show: (id) => marks.show(id), point: (id) => marks.mark(id) };
    this.#bytes = mountWireView(element('bytes'), { tap, lanes, messages, hint: [firstSteps()] });
    this.#compare = mountCompare(element('compare'), { tap, lanes, deliveries, publish });
    this.#chaos = mountChaos(element('chaos'), { tap, lanes, note, forget });
    element('dock').hidden = false;
  }

  watch(label, lane) {
    [this.#bytes, this.#compare, this.#chaos].forEach((tool) => tool.watch(label, lane));
  }

  showBytes(label) {
    this.#dock.show('bytes');
    this.#bytes.show(label);
    document.getElementById('dock').scrollIntoView({ block: 'nearest' });
  }

  /** Shows where the bytes of a message are that came on this lane. */
  showMessage(label, id) {
    this.#dock.show('bytes');
    this.#bytes.find(label, id);
  }

  /** The lanes are of the other mode now. Those of both modes have the same labels. */
  changeMode(mode) {
    this.#compare.begin(`Counted since the mode is ${mode === 'room' ? 'Room' : 'Isolated'}.`);
  }

  /** Whether the server can be made to forget everything. */
  allowForget(is) {
    this.#chaos.allowForget(is);
  }
}

function firstSteps() {
  const steps = [
    'Press Start all. Each lane connects in its own way, and its bytes appear here.',
    'Send a message. It arrives in every lane: point at its bytes, and see what they mean.',
    'Open Chaos and press Drop. The lanes come back, and nothing is lost.',
  ];
  return make('div', { class: 'first-steps' }, make('p', {}, 'One message, six transports, every byte.'),
    make('ol', {}, ...steps.map((text) => make('li', {}, text))));
}

const forget = () => whole(request(urlOf('/api/forget'), { method: 'POST', limit: ANSWER }));
