// A WebSocket that is a mailbox: a text comes back to its sender. The mailbox lives as long as its socket. The next
// socket cannot name the old mailbox, so texts that were on their way when a socket was lost are lost with it, and the
// lane says so. The server sends heartbeats without being asked, the first one at once.

import { adopt, asMessage } from './mailbox.js';
import { WebSocketLane } from './websocket.js';

export class MailboxWebSocket extends WebSocketLane {
  static how = '/ws';
  static about = 'Its mailbox is nobody else\u2019s. What is sent through the socket comes back on it.';

  id = undefined;

  open() {
    this.wire('request', 'GET /ws');
    return new WebSocket(this.socketUrl('/ws'));
  }

  async join(signal, isDoubtful) {
    isDoubtful && await this.askWho(signal);
  }

  askHeartbeat() {}

  encode(sender, text) {
    return { message: text };
  }

  decode(value) {
    if (value.type === 'heartbeat' && value.connection_id !== this.id) {
      adopt(this, value.connection_id);
    }
    if (value.recovered === false) {
      this.missing();
    }
    return value.type === 'user_message' ? asMessage(value) : value;
  }

  send(sender, text) {
    return super.send(undefined, text); // it comes back without a sender
  }
}
