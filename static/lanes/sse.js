// Server-sent events: the browser reads the stream, keeps the last event ID, and reconnects with `Last-Event-ID` when a
// connection is lost. The lane does the rest. The browser gives up forever (readyState CLOSED) when the answer is not
// an event stream; it retries in the same rhythm, however long the server is gone; and it does not notice a silent
// connection. In these cases the lane opens another EventSource. An EventSource cannot send a header field of its own,
// so the cursor is in its URL. (When the browser reconnects, that URL is old: the field is newer, and wins.)

import { Silence } from '../overwire.js';
import { Lane } from './lane.js';

export class Sse extends Lane {
  static lane = 'sse';
  static title = 'Server-sent events';
  static how = '/api/events';
  static about = 'An answer that does not end, in a format that browsers read: EventSource parses it, and '
    + 'reconnects.';
  static holds = true;

  /** Opens the stream and listens to its events. A mailbox overrides this. */
  open() {
    this.wire('request', 'GET /api/events');
    const source = new EventSource(this.url('/api/events', this.position('last_event_id')));
    source.addEventListener('message', ({ data }) => this.receiveValue(JSON.parse(data)));
    source.addEventListener('notice', ({ data }) => this.receiveValue(JSON.parse(data)));
    source.addEventListener('heartbeat', () => this.receiveValue({ type: 'heartbeat' }));
    return source;
  }

  connect(signal) {
    return new Promise((resolve, reject) => {
      const source = this.open();
      const silence = new Silence(this.constructor.SILENCE, reject);
      for (const name of ['open', 'message', 'notice', 'heartbeat']) {
        source.addEventListener(name, () => silence.heard());
      }
      for (const name of ['unauthorized', 'ended']) { // the last event: the browser must not come back by itself
        source.addEventListener(name, ({ data }) => this.#refused(data, reject));
      }
      source.addEventListener('open', () => this.opened());
      source.addEventListener('error', () => {
        if (source.readyState === EventSource.CLOSED) {
          reject(new Error('the browser gave up on the stream'));
        } else if (!this.isOpen) {
          reject(new Error('the connection could not be opened'));
        } else {
          silence.heard();
          this.interrupted('the connection was lost, the browser reconnects');
          this.wire('request', `GET ${new URL(source.url).pathname}`);
        }
      });
      signal.addEventListener('abort', () => {
        source.close();
        silence.end();
        reject(signal.reason);
      });
    });
  }

  #refused(data, reject) {
    try {
      this.receiveValue(JSON.parse(data));
    } catch (error) {
      reject(error);
    }
  }
}
