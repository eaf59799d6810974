// Long polling: the server holds the answer until there is news or until its time is over, and the
// client asks again at once. What is sent between an answer and the next question is not lost, because
// the question says behind which message it goes on.

import { Lane, getJson } from '/lanes/lane.js';

export class LongPoll extends Lane {
  static lane = 'long-poll';
  static title = 'Long polling';
  static how = 'GET /api/poll, held up to 25 seconds';

  async connect(signal) {
    // A held request says nothing: one that is answered at once shows that the server is there.
    this.take(await getJson(this.url('/api/messages'), signal));
    this.opened();
    while (!signal.aborted) {
      this.take(await getJson(this.url('/api/poll'), signal));
    }
  }
}
