// Short polling: ask, wait, ask again. The wait begins after the answer, so two requests never overlap, however slow
// the server is. (With `setInterval` they would.)

import { Lane } from './lane.js';
import { sleep } from './waiting.js';

export class ShortPoll extends Lane {
  static lane = 'short-poll';
  static title = 'Short polling';
  static how = '/api/messages';
  static about = 'Asks every 2 seconds. What is new comes with the next answer; most answers are empty.';
  static INTERVAL = 2_000;

  async connect(signal) {
    while (!signal.aborted) {
      const answer = await this.ask('GET', '/api/messages', this.position(), { signal });
      this.opened();
      this.take(answer, signal);
      if (answer.stopPolling) {
        return this.stop();
      }
      await sleep(this.constructor.INTERVAL, signal);
    }
  }
}
