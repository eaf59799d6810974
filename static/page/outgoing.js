// The way that a message takes: to the room, beside the lanes or through one of them; or to mailboxes. A POST needs a
// connection. When all six are held it would wait, so the message takes another way, or none.

import { Once } from '../lanes/once.js';
import { urlOf } from '../lanes/urls.js';
import { request, whole } from '../overwire.js';

const SILENCE = 10_000; // milliseconds without a byte after which the request is given up
const WITHOUT_POST = ['websocket', 'webrtc'];
const FULL = 'all six connections are held, and a POST would be the seventh and wait. Stop a lane';

export class Outgoing {
  #connections;
  #deliveries;
  #to;
  #once = new Once();

  /** `to` returns the page's state: { mode, room, panels, sender }. */
  constructor({ connections, deliveries, to }) {
    this.#connections = connections;
    this.#deliveries = deliveries;
    this.#to = to;
  }

  /** Sends through one lane. */
  async send(panel, text) {
    if (!WITHOUT_POST.includes(panel.label) && await this.#connections.areFull()) {
      throw new Error(`${FULL}.`);
    }
    return panel.send(this.#to().sender, text);
  }

  /** Sends to the room, beside the lanes if possible; or to the mailbox of each running lane. Resolves with the id. */
  async publish(text) {
    const { mode, panels, sender } = this.#to();
    if (mode === 'isolated') {
      return this.#toMailboxes(text, panels.filter((panel) => panel.running));
    }
    const find = (wanted) => panels.find(({ label }) => label === wanted);
    const full = await this.#connections.areFull();
    const id = full ? await this.#bySocket(find('websocket'), text) : await this.#post(text);
    const webrtc = find('webrtc');
    if (['open', 'holding'].includes(webrtc?.lane.state)) { // data channels do not pass the server
      await webrtc.send(sender, text, id);
    }
    return id;
  }

  async #bySocket(panel, text) {
    if (panel?.lane.state !== 'open') {
      throw new Error(`${FULL}, or send by a WebSocket that is open, which does not count among the six.`);
    }
    return panel.send(this.#to().sender, text);
  }

  async #post(text) {
    const { sender, room } = this.#to();
    const sent = this.#deliveries.sending(sender, text);
    let id;
    try {
      id = (await this.#once.say({ sender, text, room }, ask)).message_id;
      return id;
    } finally {
      sent(id);
    }
  }

  async #toMailboxes(text, panels) {
    if (panels.length === 0) {
      throw new Error('no lane is running: each lane has a mailbox of its own, and only while it runs.');
    }
    const results = await Promise.allSettled(panels.map((panel) => this.send(panel, text)));
    results.forEach(({ reason }, at) => reason && panels[at].note(`Sending failed: ${reason.message}`, 'problem'));
    if (results.every(({ status }) => status === 'rejected')) {
      throw results[0].reason;
    }
  }
}

async function ask(content) {
  const body = JSON.stringify(content);
  return JSON.parse(await whole(request(urlOf('/api/send'), { method: 'POST', body, limit: SILENCE })));
}
