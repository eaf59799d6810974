// Long polling: the server holds the answer until there is news or its time is over, and the client asks again at once.
// A message sent between an answer and the next request is not lost, because the request names the last message that
// the client has.

import { HELD, longPoll } from '../overwire.js';
import { Lane } from './lane.js';

export class LongPoll extends Lane {
  static lane = 'long-poll';
  static title = 'Long polling';
  static how = '/api/poll';
  static about = `Asks once. The server answers when something is new, or after ${HELD} seconds; then it asks again.`;
  static holds = true;
  static SILENCE = (HELD + 5) * 1000;

  /** A held request says nothing. One that is answered at once shows that the server is there. */
  async join(signal) {
    await (this.cursor === undefined ? super.join(signal) : this.catchUp(signal));
  }

  connect(signal) {
    return longPoll(this, signal, this.constructor.SILENCE);
  }
}
