// WebSocket: one connection for both directions. The browser neither reconnects nor resumes: the lane does both, with
// its cursor in the URL of the next socket. No request has an answer here: the lane knows that the server has a message
// when the message comes back, as it comes to everyone in the room.
//
// A mailbox has other URLs and other messages. It overrides `open`, `encode`, `decode` and `askHeartbeat`.

import { readSocket } from '../overwire.js';
import { Lane } from './lane.js';

export class WebSocketLane extends Lane {
  static lane = 'websocket';
  static title = 'WebSocket';
  static how = '/api/ws';
  static about = 'One connection for both directions. After a handshake in HTTP, each message is a frame.';

  #socket = undefined;
  #sent = []; // { sender, text, socket, resolve, reject }: have not come back yet, oldest first

  connect(signal) {
    const socket = this.open();
    this.#socket = socket;
    const onOpen = () => {
      this.opened();
      if (this.#sent.length > 0) {
        this.askHeartbeat(socket);
      }
    };
    const onText = (data) => this.#take(this.decode(JSON.parse(data)));
    const { SILENCE: limit, HEARTBEAT: after } = this.constructor;
    return readSocket(socket, signal, { limit, after, onOpen, onText, ask: () => this.askHeartbeat(socket) });
  }

  open() {
    this.wire('request', 'GET /api/ws');
    return new WebSocket(this.socketUrl('/api/ws', this.position()));
  }

  /** The value to send for a text. */
  encode(sender, text) {
    return { sender, text, room: this.room };
  }

  /** A value that arrived, in the form of a room's values. */
  decode(value) {
    return value;
  }

  askHeartbeat(socket) {
    socket.send(JSON.stringify({ type: 'heartbeat' }));
  }

  /** The socket, if it is open. */
  #opened() {
    if (this.#socket?.readyState !== WebSocket.OPEN) {
      throw new Error('the socket is not open');
    }
    return this.#socket;
  }

  /** Sends the bytes of a text as one binary message. The server takes text alone, and answers with an error. */
  async sendBinary(text) {
    const socket = this.#opened();
    await new Promise((resolve, reject) => {
      this.#sent.push({ socket, resolve, reject }); // answers come in order: it has its place in it
      socket.send(new TextEncoder().encode(text));
    });
  }

  /** Closes the socket with a code and a reason. The lane connects again, as after every end. */
  close(code, reason) {
    this.#opened().close(code, reason);
  }

  /**
   * Resolves with the message's id when the message has come back. If the socket is lost before, the message may have
   * arrived or not. The messages that the next socket replays decide it: so it is neither lost silently nor sent twice.
   */
  async send(sender, text) {
    const socket = this.#opened();
    return new Promise((resolve, reject) => {
      this.#sent.push({ sender, text, socket, resolve, reject });
      socket.send(JSON.stringify(this.encode(sender, text)));
    });
  }

  stopped() {
    this.#giveUp(() => true, 'stopped before it came back');
  }

  #take(value) {
    if (value.type === 'heartbeat') {
      // The server answers in order, so everything that it replays has come before this.
      this.#giveUp(({ socket }) => socket !== this.#socket, 'the connection was lost before it arrived');
    } else if (value.type === 'error') {
      const [oldest] = this.#sent; // answers come in order
      this.#giveUp((sent) => sent === oldest, value.error);
    } else {
      this.#confirm(value);
    }
    this.receiveValue(value);
  }

  #confirm(message) {
    const at = this.#sent.findIndex(({ sender, text }) => sender === message.sender && text === message.text);
    if (at >= 0) {
      this.#sent.splice(at, 1)[0].resolve(message.id);
    }
  }

  #giveUp(which, why) {
    const given = this.#sent.filter(which);
    this.#sent = this.#sent.filter((sent) => !given.includes(sent));
    given.forEach(({ reject }) => reject(new Error(why)));
  }
}
