// Long polling of a mailbox. The first POST is answered with the mailbox's name; each further POST with a text, or
// after 30 seconds with none. A text is sent by another POST, beside the one that is held.

import { Lane } from './lane.js';
import { adopt, asMessage } from './mailbox.js';

export class MailboxPoll extends Lane {
  static lane = 'long-poll';
  static title = 'Long polling';
  static how = '/poll';
  static about = 'Its mailbox is nobody else\u2019s. A poll is answered when something is in it, or after 30 seconds.';
  static holds = true;
  /** Longer than the server holds an answer. */
  static SILENCE = 35_000;

  id = undefined;
  #mailbox = undefined; // its name, while the server knows it

  async join(signal) {
    if (this.#mailbox === undefined) {
      const { connection_id: id } = await this.#poll({}, { signal });
      this.#mailbox = id;
      this.cursor = undefined;
      adopt(this, id);
    }
  }

  async connect(signal) {
    this.opened('holding');
    const limit = this.constructor.SILENCE;
    while (!signal.aborted) {
      const content = { connection_id: this.#mailbox, last_message_id: this.cursor };
      this.#take(await this.#poll(content, { signal, limit }));
    }
  }

  #take(answer) {
    if (answer.recovered === false) {
      this.missing();
    }
    if (answer.message === undefined) {
      this.wire('empty', 'nothing new');
    } else {
      this.receive(asMessage(answer));
    }
  }

  async send(sender, text) {
    if (this.#mailbox === undefined) {
      throw new Error('there is no mailbox yet');
    }
    return (await this.#known(this.post('/poll', { connection_id: this.#mailbox, text }))).id;
  }

  #poll(content, options) {
    return this.#known(this.ask('POST', '/poll', {}, { content, ...options }));
  }

  async #known(answer) {
    try {
      return await answer;
    } catch (error) {
      if (error.status === 404) {
        this.#mailbox = undefined; // it has expired, or the server was restarted: the next attempt gets another one
      }
      throw error;
    }
  }
}
