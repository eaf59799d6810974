// One room with Socket.IO and its adapter for Redis Streams: `node socketio_server.mjs PORT REDIS_PORT`.

import { createServer } from 'node:http';
import { createAdapter } from '@socket.io/redis-streams-adapter';
import { createClient } from 'redis';
import { Server } from 'socket.io';

const [port, redisPort] = process.argv.slice(2).map(Number);
const redis = createClient({ url: `redis://127.0.0.1:${redisPort}` });
await redis.connect();

function answer(response, status, content = '') {
  response.writeHead(status, { 'Content-Type': 'text/plain', 'Content-Length': content.length });
  response.end(content);
}

function publish(request, response) {
  const parts = [];
  request.on('data', (part) => parts.push(part));
  request.on('end', () => {
    io.emit('message', Buffer.concat(parts).toString());
    answer(response, 200);
  });
}

const server = createServer((request, response) => {
  if (request.url === '/pub' && request.method === 'POST') publish(request, response);
  else answer(response, request.url === '/hello' ? 200 : 404, 'hello');
});
// The default closes an idle connection after 5 seconds.
server.keepAliveTimeout = 3_600_000;

const io = new Server(server, {
  adapter: createAdapter(redis, { maxLen: 1000 }),
  // Its recovery of a connection is what is compared: the adapter stores messages for it.
  connectionStateRecovery: {},
  perMessageDeflate: false,
  pingInterval: 3_600_000, // the load does not answer its pings
  serveClient: false,
});

// The default backlog, 511, is too short for thousands of clients that connect at once.
server.listen({ host: '127.0.0.1', port, backlog: 4096 });
