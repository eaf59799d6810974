// Long polling: the server holds the answer until there is news or until its time is over, and the
// client asks again at once. What is sent between an answer and the next question is not lost, because
// the question says behind which message it goes on.

import { Lane } from '/lanes/lane.js';

const HELD = 25; // seconds: the server answers then, whatever happens

export class LongPoll extends Lane {
  static lane = 'long-poll';
  static title = 'Long polling';
  static how = '/api/poll';
  static about = `Asks once. The server answers when something is new, or after ${HELD} seconds; then it asks again.`;
  static holds = true;
  /** A held answer is silent by design: only one that stays away longer than it was asked to is dead. */
  static SILENCE = 30_000;

  /** A held request says nothing: one that is answered at once shows that the server is there. */
  async join(signal) {
    if (this.cursor === undefined) {
      return super.join(signal);
    }
    this.take(await this.ask('GET', '/api/messages', this.position(), { signal }), signal);
  }

  async connect(signal) {
    this.opened('holding');
    while (!signal.aborted) {
      const question = { ...this.position(), timeout: HELD };
      this.take(await this.ask('GET', '/api/poll', question, { signal, limit: LongPoll.SILENCE }), signal);
    }
  }
}
