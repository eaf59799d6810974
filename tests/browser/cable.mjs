// A way to the server that can fail as a network does: it is cut, or it falls silent and nobody is told.

import { connect, createServer } from 'node:net';

export class Cable {
  #pairs = new Set();
  #listener;

  /** `port` names the server; `cable.port` is where a client connects instead. */
  static async plug(port) {
    const cable = new Cable();
    cable.#listener = createServer((client) => cable.#join(client, connect(port, '127.0.0.1')));
    await new Promise((resolve) => cable.#listener.listen(0, '127.0.0.1', resolve));
    cable.port = cable.#listener.address().port;
    cable.url = `http://127.0.0.1:${cable.port}`;
    return cable;
  }

  #join(client, server) {
    const pair = [client, server];
    this.#pairs.add(pair);
    const end = () => {
      pair.forEach((socket) => socket.destroy());
      this.#pairs.delete(pair);
    };
    pair.forEach((socket) => socket.on('error', end).on('close', end));
    client.pipe(server).pipe(client);
  }

  /** Ends what is open now. */
  cut() {
    this.#pairs.forEach((pair) => pair.forEach((socket) => socket.destroy()));
  }

  /** What is open now says nothing more, in either direction, and stays open. What is opened later works. */
  silence() {
    for (const [client, server] of this.#pairs) {
      client.unpipe(server);
      server.unpipe(client);
      [client, server].forEach((socket) => socket.resume().on('data', () => {}));
    }
  }

  unplug() {
    this.cut();
    this.#listener.close();
  }
}
