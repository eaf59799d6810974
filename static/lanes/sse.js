// Server-sent events: the browser reads the stream, keeps the last event ID, and reconnects by itself
// with `Last-Event-ID` when a connection is lost. It gives up for good (readyState CLOSED) when the answer
// is not an event stream, and some browsers do when the server is not there: then a new EventSource
// goes on, and because it cannot be told a header field, its URL carries the cursor.

import { Lane } from '/lanes/lane.js';

export class Sse extends Lane {
  static lane = 'sse';
  static title = 'Server-sent events';
  static how = 'EventSource on /api/events';

  connect(signal) {
    const source = new EventSource(this.url('/api/events', 'last_event_id'));
    source.addEventListener('open', () => this.opened());
    source.addEventListener('message', ({ data }) => this.receive(JSON.parse(data)));
    source.addEventListener('notice', ({ data }) => this.checkRecovered(JSON.parse(data)));
    return new Promise((resolve, reject) => {
      source.addEventListener('error', () => {
        if (source.readyState === EventSource.CLOSED) {
          reject(new Error('the browser gave up on the stream'));
        } else {
          this.interrupted('the connection was lost, the browser reconnects');
        }
      });
      signal.addEventListener('abort', () => {
        source.close();
        resolve();
      }, { once: true });
    });
  }
}
