// Short polling: ask, wait, ask again. The wait begins after the answer, so two requests never overlap, however slow
// the server is. (With `setInterval` they would.)

import { shortPoll } from '../overwire.js';
import { Lane } from './lane.js';

export class ShortPoll extends Lane {
  static lane = 'short-poll';
  static title = 'Short polling';
  static how = '/api/messages';
  static about = 'Asks every 2 seconds. What is new comes with the next answer; most answers are empty.';
  static INTERVAL = 2_000;

  connect(signal) {
    return shortPoll(this, signal, this.constructor.INTERVAL);
  }
}
