// One room with node:http and `ws`: `node node_server.mjs PORT`.

import { createServer } from 'node:http';
import { WebSocketServer } from 'ws';

const KEPT = 1000;
const MAX_MESSAGE = 1024 * 1024;

// The room.

const messages = []; // the last messages: { id, answer }, where `answer` is for a poll
let lastId = 0;
const events = new Set(); // answers of /sse
const chunks = new Set(); // answers of /chunk
const polls = new Map(); // answers of /poll that are held, each with its `since`

function publish(text) {
  const id = ++lastId;
  const answer = Buffer.from(JSON.stringify({ id, message: text }));
  messages.push({ id, answer });
  if (messages.length > KEPT) messages.shift();

  // Encoded once for all sockets, not once for each.
  const data = Buffer.from(text);
  for (const socket of room.clients) socket.send(data, { binary: false });

  const event = Buffer.from(`data: ${text.replace(/\r\n|\r|\n/g, '\ndata: ')}\n\n`);
  for (const response of events) response.write(event);

  if (data.length > 0) for (const response of chunks) response.write(data);

  for (const [response, since] of polls) {
    if (id <= since) continue;
    polls.delete(response);
    answerPoll(response, answer);
  }
}

// HTTP.

function hello(request, response) {
  response.writeHead(200, { 'Content-Type': 'text/plain', 'Content-Length': 5 });
  response.end('hello');
}

function stream(response, type, all) {
  response.writeHead(200, { 'Content-Type': type, 'Cache-Control': 'no-store' });
  response.flushHeaders();
  all.add(response);
  response.on('close', () => all.delete(response));
}

function poll(request, response, query) {
  const since = Number(new URLSearchParams(query).get('since'));
  if (!Number.isSafeInteger(since) || since < 0) return refuse(response, 400);
  if (since >= lastId) {
    polls.set(response, since);
    response.on('close', () => polls.delete(response));
  } else {
    answerPoll(response, messages[Math.max(0, since + 1 - messages[0].id)].answer);
  }
}

function answerPoll(response, answer) {
  response.writeHead(200, {
    'Content-Type': 'application/json',
    'Content-Length': answer.length,
    'Cache-Control': 'no-store',
  });
  response.end(answer);
}

function pub(request, response) {
  const parts = [];
  request.on('data', (part) => parts.push(part));
  request.on('end', () => {
    publish(Buffer.concat(parts).toString());
    response.writeHead(204).end();
  });
}

function refuse(response, status) {
  response.writeHead(status, { 'Content-Length': 0 }).end();
}

const routes = new Map([
  ['GET /hello', hello],
  ['GET /sse', (request, response) => stream(response, 'text/event-stream', events)],
  ['GET /chunk', (request, response) => stream(response, 'text/plain; charset=utf-8', chunks)],
  ['GET /poll', poll],
  ['POST /pub', pub],
]);

const server = createServer((request, response) => {
  const [path, query] = request.url.split('?', 2);
  const route = routes.get(`${request.method} ${path}`);
  if (route) route(request, response, query);
  else refuse(response, 404);
});
// The default closes an idle connection after 5 seconds.
server.keepAliveTimeout = 3_600_000;

// WebSocket.

const options = { noServer: true, perMessageDeflate: false, maxPayload: MAX_MESSAGE };
const echo = new WebSocketServer({ ...options, clientTracking: false });
const room = new WebSocketServer(options);

echo.on('connection', (socket) => {
  socket.on('error', () => {}); // the connection is closed by `ws`
  socket.on('message', (data, binary) => socket.send(data, { binary }));
});

room.on('connection', (socket) => {
  socket.on('error', () => {});
  socket.on('message', (data) => publish(data.toString()));
});

server.on('upgrade', (request, socket, head) => {
  const path = request.url.split('?', 1)[0];
  const target = path === '/echo' ? echo : path === '/ws' ? room : undefined;
  if (target) target.handleUpgrade(request, socket, head, (ws) => target.emit('connection', ws, request));
  else socket.end('HTTP/1.1 404 Not Found\r\nConnection: close\r\nContent-Length: 0\r\n\r\n');
});

// The default backlog, 511, is too short for thousands of clients that connect at once.
server.listen({ host: '127.0.0.1', port: Number(process.argv[2]), backlog: 4096 });
