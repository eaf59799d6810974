// Measures clients in Chromium: the bytes of a bundle, and the time from its first call until a message that the page
// sends at once has come back from the server. Between browser and server is a wire with a delay, because at a loopback
// a round trip costs nothing, and the number of round trips is what differs.

import { createServer } from 'node:http';
import { connect, createServer as listen } from 'node:net';
import { gzipSync } from 'node:zlib';
import { build } from 'esbuild';
import { chromium } from 'playwright-core';
import { Server as SocketIo } from 'socket.io';
import { Server } from '../../interop/server.mjs';

const ONE_WAY = 25; // milliseconds
const ROUNDS = 15;

/** Each program ends with `globalThis.first(url)`: it resolves when its own message has come back. */
const CLIENTS = [
  ...[['', 'overwire'], [', the upgrade refused', 'refusing']].map(([which, server]) => ({
    name: `overwire.js${which}`, server,
    program: `import { connect } from '../../../static/overwire.js';
      globalThis.first = (url) => new Promise((resolve) => {
        const room = connect(url, { sender: 'a' });
        room.addEventListener('message', resolve);
        room.send('hello');
      });`,
  })),
  ...[['', {}], [', WebSocket alone', { transports: ['websocket'] }]].map(([which, options]) => ({
    name: `Socket.IO${which}`, server: 'socketIo',
    program: `import { io } from 'socket.io-client';
      globalThis.first = (url) => new Promise((resolve) => {
        const socket = io(url, ${JSON.stringify(options)});
        socket.on('message', resolve);
        socket.emit('message', 'hello');
      });`,
  })),
  { // its server is .NET, so it has only a size
    name: 'SignalR', program: `import { HubConnectionBuilder } from '@microsoft/signalr';
      globalThis.first = (url) => new HubConnectionBuilder().withUrl(url).withAutomaticReconnect().build().start();`,
  },
];

async function bundle(program) {
  const { outputFiles: [{ contents }] } = await build({
    stdin: { contents: program, resolveDir: import.meta.dirname }, bundle: true, minify: true, format: 'iife',
    platform: 'browser', target: 'es2022', write: false, logLevel: 'error',
  });
  return contents;
}

/** Passes connections on to a port, and each piece `ONE_WAY` later. A refused upgrade gets a 403 at the far end. */
async function wire(port, { refuses = false } = {}) {
  const listener = listen((client) => {
    const server = connect(port, '127.0.0.1');
    for (const [from, to] of [[client, server], [server, client]]) {
      from.on('error', () => to.destroy()).on('close', () => setTimeout(() => to.destroy(), ONE_WAY));
      from.on('data', (piece) => setTimeout(() => {
        if (refuses && from === client && /^upgrade: websocket/im.test(piece)) {
          setTimeout(() => client.end('HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n'), ONE_WAY);
        } else {
          to.write(piece);
        }
      }, ONE_WAY));
    }
  });
  await new Promise((resolve) => { listener.listen(0, '127.0.0.1', resolve); });
  return `http://127.0.0.1:${listener.address().port}/`;
}

/** A server that sends each message back. Any other request gets a page without scripts. */
function socketIo() {
  const http = createServer((request, response) => response.end('{}'));
  new SocketIo(http).on('connection', (socket) => socket.on('message', (text) => socket.emit('message', text)));
  return new Promise((resolve) => { http.listen(0, '127.0.0.1', () => resolve(http.address().port)); });
}

const overwire = await Server.start();
await overwire.post('/api/send', { sender: 'a', text: 'in a room without messages, it takes one round trip more' });
const urls = {
  overwire: await wire(overwire.port),
  refusing: await wire(overwire.port, { refuses: true }),
  socketIo: await wire(await socketIo()),
};
const browser = await chromium.launch({
  executablePath: process.env.CHROMIUM ?? '/usr/bin/chromium', args: ['--headless', '--no-sandbox', '--disable-gpu'],
});

async function time(url, code) {
  const page = await (await browser.newContext()).newPage();
  await page.goto(`${url}health`);
  await page.addScriptTag({ content: code });
  const took = await page.evaluate(async (url) => {
    const start = performance.now();
    await globalThis.first(url);
    return performance.now() - start;
  }, url);
  await page.context().close();
  return took;
}

/** The clients take turns: other work of the machine disturbs them alike. */
for (const client of CLIENTS) {
  client.code = await bundle(client.program);
  client.times = [];
}
for (let round = 0; round < ROUNDS; round += 1) {
  for (const { server, code, times } of CLIENTS.filter((client) => client.server)) {
    times.push(await time(urls[server], Buffer.from(code).toString()));
  }
}
const least = (all) => Math.min(...all);
const median = (all) => all.sort((a, b) => a - b)[all.length >> 1];
const size = (bytes) => `${(bytes / 1000).toFixed(1)} kB`;
console.log(`| client | minified | gzipped | first message, shortest (round trip: ${2 * ONE_WAY} ms) | median |`);
console.log('|-|-:|-:|-:|-:|');
for (const { name, code, times } of CLIENTS) {
  const shown = (time) => (times.length > 0 ? `${time(times).toFixed(0)} ms` : '');
  const cells = [name, size(code.length), size(gzipSync(code, { level: 9 }).length), shown(least), shown(median)];
  console.log(`| ${cells.join(' | ')} |`);
}
await browser.close();
await overwire.stop();
process.exit();
