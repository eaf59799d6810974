// WebSocket: one connection for both directions. The browser neither reconnects nor resumes: the lane
// does both, with its cursor in the URL of the new socket. And no request has an answer here: the lane
// knows that the server has a message when that comes back, as it comes to everyone in the room.

import { Lane } from '/lanes/lane.js';
import { Silence } from '/lanes/waiting.js';

export class WebSocketLane extends Lane {
  static lane = 'websocket';
  static title = 'WebSocket';
  static how = '/api/ws';
  static about = 'One connection for both directions. After a handshake in HTTP, each message is a frame.';
  /** A page is not shown the server's pings. It asks for a sign of life when nothing came for so long. */
  static HEARTBEAT = 15_000;

  #socket = undefined;
  #sent = []; // { sender, text, socket, resolve, reject }: not come back yet, oldest first

  connect(signal) {
    return new Promise((resolve, reject) => {
      const socket = this.open();
      this.#socket = socket;
      const { SILENCE, HEARTBEAT } = this.constructor;
      const silence = new Silence(SILENCE, reject, { after: HEARTBEAT, ask: () => this.#ask(socket) });
      socket.addEventListener('open', () => {
        silence.heard();
        this.opened();
        if (this.#sent.length > 0) {
          this.#ask(socket);
        }
      });
      // None comes after `socket.close()`: what the server sends then is for the next socket.
      socket.addEventListener('message', ({ data }) => {
        silence.heard();
        this.receiveValue(JSON.parse(data));
      });
      socket.addEventListener('close', ({ code, reason }) => {
        reject(new Error(`closed with ${code}${reason && `: ${reason}`}`));
      });
      signal.addEventListener('abort', () => {
        silence.end();
        socket.close(1000);
        reject(signal.reason); // without waiting for the closing handshake: a dead server takes no part in it
      });
    });
  }

  // Opens the socket, asks and speaks: overridden for a mailbox.
  open() {
    this.wire('request', 'GET /api/ws');
    return new WebSocket(socketUrl(this.url('/api/ws', this.position())));
  }

  #ask(socket) {
    if (socket.readyState === WebSocket.OPEN) {
      this.askHeartbeat(socket);
    }
  }

  askHeartbeat(socket) {
    socket.send(JSON.stringify({ type: 'heartbeat' }));
  }

  /** What is sent to say `text`. */
  encode(sender, text) {
    return { sender, text, room: this.room };
  }

  /**
   * Resolves with the message's id when it has come back. When the socket is lost first, the message
   * may have arrived or not: the next socket's replay tells, so it is neither lost in silence nor sent twice.
   */
  send(sender, text) {
    const socket = this.#socket;
    if (socket?.readyState !== WebSocket.OPEN) {
      return Promise.reject(new Error('the socket is not open'));
    }
    return new Promise((resolve, reject) => {
      this.#sent.push({ sender, text, socket, resolve, reject });
      socket.send(JSON.stringify(this.encode(sender, text)));
    });
  }

  receive(message) {
    const at = this.#sent.findIndex(({ sender, text }) => sender === message.sender && text === message.text);
    if (at >= 0) {
      this.#sent.splice(at, 1)[0].resolve(message.id);
    }
    super.receive(message);
  }

  receiveValue(value) {
    if (value.type === 'heartbeat') {
      // The server answers in order, so all that it replays has come before this.
      this.#giveUp(({ socket }) => socket !== this.#socket, 'the connection was lost before it arrived');
    } else if (value.type === 'error') {
      const [oldest] = this.#sent; // answers come in order
      this.#giveUp((sent) => sent === oldest, value.error);
    }
    super.receiveValue(value);
  }

  stop() {
    super.stop();
    this.#giveUp(() => true, 'stopped before it came back');
  }

  #giveUp(which, why) {
    const given = this.#sent.filter(which);
    this.#sent = this.#sent.filter((sent) => !given.includes(sent));
    given.forEach(({ reject }) => reject(new Error(why)));
  }
}

/** A browser may want the scheme in the URL of a WebSocket. */
export function socketUrl(path) {
  const url = new URL(path, location.href);
  url.protocol = location.protocol === 'https:' ? 'wss:' : 'ws:';
  return url;
}
