// Long polling: the server holds the answer until there is news or its time is over, and the client asks again at once.
// A message sent between an answer and the next request is not lost, because the request names the last message that
// the client has.

import { Lane } from './lane.js';

const HELD = 25; // seconds: then the server answers in any case

export class LongPoll extends Lane {
  static lane = 'long-poll';
  static title = 'Long polling';
  static how = '/api/poll';
  static about = `Asks once. The server answers when something is new, or after ${HELD} seconds; then it asks again.`;
  static holds = true;
  /** A held answer is silent by design. It is dead only if it takes longer than the time it was asked for. */
  static SILENCE = 30_000;

  /** A held request says nothing. One that is answered at once shows that the server is there. */
  async join(signal) {
    if (this.cursor === undefined) {
      return super.join(signal);
    }
    this.take(await this.ask('GET', '/api/messages', this.position(), { signal }), signal);
  }

  async connect(signal) {
    this.opened('holding');
    const limit = this.constructor.SILENCE;
    while (!signal.aborted) {
      const parameters = { ...this.position(), timeout: HELD };
      this.take(await this.ask('GET', '/api/poll', parameters, { signal, limit }), signal);
    }
  }
}
