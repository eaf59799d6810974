// HTTP streaming: one answer that does not end, with one JSON value on each line.

import { Lane } from './lane.js';

export class Stream extends Lane {
  static lane = 'stream';
  static title = 'HTTP streaming';
  static how = '/api/stream';
  static about = 'One request, and an answer that does not end: a line of JSON for each message.';
  static holds = true;

  async connect(signal) {
    const options = { signal, limit: this.constructor.SILENCE, onHead: () => this.opened() };
    for await (const line of lines(this.request('GET', '/api/stream', this.position(), options))) {
      signal.throwIfAborted(); // one read can bring several lines, and none may be used after `stop`
      this.receiveValue(line === '' ? { type: 'heartbeat' } : JSON.parse(line));
    }
  }
}

/**
 * The lines of a text that arrives in pieces. A piece can end anywhere, so `rest` keeps the unfinished line. A last
 * line without its end was cut off: the cursor brings it again, whole.
 */
async function* lines(texts) {
  let rest = '';
  for await (const text of texts) {
    const parts = (rest + text).split('\n');
    rest = parts.pop();
    yield* parts;
  }
}
