// A connection to the server that can fail like a network: it can be cut, or fall silent without a notice.

import { connect, createServer } from 'node:net';

export class Cable {
  #pairs = new Set();
  #listener;

  /** `port` is the port of the server. Clients connect to `cable.port` instead. */
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

  /** Ends all open connections. */
  cut() {
    this.#pairs.forEach((pair) => pair.forEach((socket) => socket.destroy()));
  }

  /** All open connections stay open, and pass nothing more in either direction. Later connections work. */
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
