// A proxy between a client and the server, which treats requests by their path as proxies do: it refuses them, keeps
// what it should pass on, or loses answers.

import { Agent, createServer, request as makeRequest } from 'node:http';
import { connect } from 'node:net';

export class Gate {
  /**
   * Path -> what happens to its requests: 'refuse' (403 of a proxy), 'hang' (no answer), 'buffer' (an answer is passed
   * on when it is complete; a WebSocket is opened and says nothing), 'lose' (the server takes the request, and the
   * answer is lost), or { status, fields, content } to answer with.
   */
  rules = new Map();
  /** The paths of all requests. */
  seen = [];
  /** The ports of the servers. Each connection goes to the next one. */
  ports;

  #sockets = new Set();
  #listener;
  #turns = 0;

  static async open(...ports) {
    const gate = new Gate();
    gate.ports = ports;
    gate.#listener = createServer((request, response) => gate.#pass(request, response));
    gate.#listener.on('upgrade', (request, socket, head) => gate.#upgrade(request, socket, head));
    gate.#listener.on('connection', (socket) => {
      gate.#sockets.add(socket);
      socket.on('error', () => {}).on('close', () => gate.#sockets.delete(socket));
    });
    await new Promise((resolve) => { gate.#listener.listen(0, '127.0.0.1', resolve); });
    gate.port = gate.#listener.address().port;
    gate.url = `http://127.0.0.1:${gate.port}`;
    return gate;
  }

  /** Requests of these paths are treated like this, all others are passed on. */
  set(rule, ...paths) {
    this.rules = new Map(paths.map((path) => [path, rule]));
  }

  #ruleOf({ url }) {
    const { pathname } = new URL(url, this.url);
    this.seen.push(pathname);
    return this.rules.get(pathname);
  }

  #port() {
    this.#turns += 1;
    return this.ports[this.#turns % this.ports.length];
  }

  #pass(request, response) {
    const rule = this.#ruleOf(request);
    if (rule === 'hang') {
      return;
    }
    if (rule === 'refuse') {
      response.writeHead(403, { 'Content-Type': 'text/html' }).end('<h1>Forbidden by the proxy</h1>');
    } else if (rule?.status) {
      response.writeHead(rule.status, rule.fields).end(rule.content);
    } else {
      this.#forward(request, response, rule);
    }
  }

  #forward({ method, url, headers, ...request }, response, rule) {
    const { socket } = response;
    const onward = makeRequest({ port: this.#port(), host: '127.0.0.1', method, path: url, headers, agent: new Agent() });
    onward.on('error', () => socket.destroy());
    response.on('close', () => onward.destroy());
    onward.on('response', (answer) => {
      if (rule === 'lose') {
        return answer.resume().on('end', () => socket.destroy());
      }
      if (rule !== 'buffer') {
        response.writeHead(answer.statusCode, answer.headers).flushHeaders();
        return answer.on('error', () => socket.destroy()).pipe(response);
      }
      const pieces = [];
      return answer.on('error', () => {}).on('data', (piece) => pieces.push(piece)).on('end', () => (
        response.writeHead(answer.statusCode, answer.headers).end(Buffer.concat(pieces))));
    });
    response.req.pipe(onward);
    return request;
  }

  /** A WebSocket is bytes in both directions after its head. */
  #upgrade(request, socket, head) {
    const rule = this.#ruleOf(request);
    if (rule === 'refuse') {
      socket.end('HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\nConnection: close\r\n\r\n');
    }
    if (rule === 'refuse' || rule === 'hang') {
      return;
    }
    const fields = request.rawHeaders.map((text, at) => (at % 2 === 0 ? `${text}: ` : `${text}\r\n`)).join('');
    const server = connect(this.#port(), '127.0.0.1');
    server.write(`GET ${request.url} HTTP/1.1\r\n${fields}\r\n`);
    server.write(head);
    const end = () => [socket, server].forEach((one) => one.destroy());
    [socket, server].forEach((one) => one.on('error', end).on('close', end));
    if (rule === 'buffer') { // the answer to the handshake passes, and nothing after it
      socket.resume();
      server.once('data', (answer) => socket.write(answer.subarray(0, answer.indexOf('\r\n\r\n') + 4)));
    } else {
      socket.pipe(server).pipe(socket);
    }
  }

  /** Ends all open connections. */
  cut() {
    this.#sockets.forEach((socket) => socket.destroy());
  }

  /** All open connections stay open, and pass nothing more in either direction. Later connections work. */
  silence() {
    for (const socket of this.#sockets) {
      socket.pause();
      socket.write = () => true;
    }
  }

  close() {
    this.cut();
    this.#listener.close();
  }
}
