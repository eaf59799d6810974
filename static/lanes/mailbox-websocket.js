// A WebSocket that is a mailbox: what is sent comes back. The mailbox is as old as its socket: a new
// socket cannot name an old mailbox, so what was on its way when a socket is lost is lost with it, and
// the lane says so. The server sends heartbeats by itself, the first one at once.

import { adopt, asMessage } from '/lanes/mailbox.js';
import { WebSocketLane, socketUrl } from '/lanes/websocket.js';

export class MailboxWebSocket extends WebSocketLane {
  static how = '/ws';
  static about = 'Its mailbox is nobody else\u2019s. What is sent through the socket comes back on it.';

  id = undefined;

  open() {
    this.wire('request', 'GET /ws');
    return new WebSocket(socketUrl(this.url('/ws')));
  }

  async join() {}

  askHeartbeat() {}

  encode(sender, text) {
    return { message: text };
  }

  send(sender, text) {
    return super.send(undefined, text); // which is how it comes back
  }

  receiveValue(value) {
    if (value.type === 'heartbeat' && value.connection_id !== this.id) {
      adopt(this, value.connection_id);
    }
    if (value.recovered === false) {
      this.missing();
    }
    super.receiveValue(value.type === 'user_message' ? asMessage(value) : value);
  }
}
