// HTTP streaming: one answer that does not end, with one JSON value on each line.

import { stream } from '../overwire.js';
import { Lane } from './lane.js';

export class Stream extends Lane {
  static lane = 'stream';
  static title = 'HTTP streaming';
  static how = '/api/stream';
  static about = 'One request, and an answer that does not end: a line of JSON for each message.';
  static holds = true;

  connect(signal) {
    return stream(this, signal);
  }
}
