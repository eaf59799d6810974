// A chat server of others, with Node's `http` and the package `ws`. It serves a page, sends each text to everyone, and
// pings. `wire tap` runs in front of it.

import { createServer } from 'node:http';
import { WebSocketServer } from 'ws';

const PING_EVERY = 500; // milliseconds
const PAGE = '<!doctype html><html lang="en"><head><meta charset="utf-8"><title>Chat</title></head>'
  + '<body><h1>Chat</h1></body></html>';

export async function startChat() {
  const server = createServer((request, response) => {
    response.writeHead(200, { 'Content-Type': 'text/html; charset=utf-8', 'X-Powered-By': 'Node' }).end(PAGE);
  });
  const sockets = new WebSocketServer({ server });
  sockets.on('connection', (socket) => {
    const pings = setInterval(() => socket.ping('still there?'), PING_EVERY);
    socket.on('close', () => clearInterval(pings));
    socket.on('message', (text) => sockets.clients.forEach((other) => other.send(String(text))));
    socket.send('{"welcome": "Say something."}');
  });
  await new Promise((resolve) => { server.listen(0, '127.0.0.1', resolve); });
  return {
    port: server.address().port,
    url: `http://127.0.0.1:${server.address().port}`,
    close() {
      sockets.clients.forEach((socket) => socket.terminate());
      server.close();
      server.closeAllConnections();
    },
  };
}
