// Short polling: ask, wait, ask again. The wait begins when the answer is there, so two
// requests never overlap, however slow the server is. (`setInterval` would let them.)

import { Lane, getJson, sleep } from '/lanes/lane.js';

const INTERVAL = 2_000;

export class ShortPoll extends Lane {
  static lane = 'short-poll';
  static title = 'Short polling';
  static how = 'GET /api/messages, every 2 seconds';

  async connect(signal) {
    while (!signal.aborted) {
      const answer = await getJson(this.url('/api/messages'), signal);
      this.opened();
      this.take(answer);
      if (answer.stopPolling) {
        return this.stop();
      }
      await sleep(INTERVAL, signal);
    }
  }
}
