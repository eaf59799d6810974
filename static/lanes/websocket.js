// WebSocket: one connection for both directions. The browser neither reconnects nor resumes: the lane
// does both, with its cursor in the URL of the new socket.

import { Lane, ROOM } from '/lanes/lane.js';

export class WebSocketLane extends Lane {
  static lane = 'websocket';
  static title = 'WebSocket';
  static how = 'WebSocket on /api/ws, both directions';

  #socket = undefined;

  connect(signal) {
    const url = new URL(this.url('/api/ws'), location.href);
    url.protocol = location.protocol === 'https:' ? 'wss:' : 'ws:';
    const socket = new WebSocket(url);
    this.#socket = socket;
    socket.addEventListener('open', () => this.opened());
    // Not called any more once `close` has been: what comes after that is for the next socket.
    socket.addEventListener('message', ({ data }) => this.receiveValue(JSON.parse(data)));
    return new Promise((resolve, reject) => {
      socket.addEventListener('close', ({ code, reason }) => {
        reject(new Error(`closed with ${code}${reason && `: ${reason}`}`));
      });
      signal.addEventListener('abort', () => {
        socket.close(1000);
        resolve();
      }, { once: true });
    });
  }

  async send(sender, text) {
    if (this.#socket?.readyState !== WebSocket.OPEN) {
      throw new Error('the socket is not open');
    }
    this.#socket.send(JSON.stringify({ sender, text, room: ROOM }));
  }
}
