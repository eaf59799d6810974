// Server-sent events from a mailbox. The event stream reads it; a text is sent by a POST beside the stream. When the
// browser reconnects, `Last-Event-ID` is a position in the mailbox, and so it names the mailbox too.

import { adopt, asMessage } from './mailbox.js';
import { Sse } from './sse.js';

export class MailboxSse extends Sse {
  static how = '/sse';
  static about = 'Its mailbox is nobody else\u2019s. It is read as an event stream; to send is a POST beside it.';

  id = undefined;

  open() {
    this.wire('request', 'GET /sse');
    const parameters = this.cursor === undefined ? {} : { last_event_id: this.cursor };
    const source = new EventSource(this.url('/sse', parameters));
    source.addEventListener('message', ({ data, lastEventId }) => this.#receive(JSON.parse(data), lastEventId));
    return source;
  }

  /** There is no history to ask for: nobody else sends to a mailbox. */
  async join(signal, isDoubtful) {
    isDoubtful && await this.askWho(signal);
  }

  #receive(value, lastEventId) {
    if (value.type === 'connected') {
      this.cursor = lastEventId;
      adopt(this, value.connection_id, value.recovered);
    } else if (value.type === 'message') {
      if (value.recovered === false) {
        this.missing();
      }
      this.receive(asMessage(value));
    } else {
      this.receiveValue(value);
    }
  }

  async send(sender, text) {
    if (this.id === undefined) {
      throw new Error('there is no mailbox yet');
    }
    return (await this.post('/sse/message', { connection_id: this.id, text })).id;
  }
}
