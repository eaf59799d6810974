#!/usr/bin/env node
// Firefox as playwright-core can drive it: a relay of WebDriver BiDi between the two. Playwright sets the media
// features of each page. Firefox ESR does not know that command: the relay answers it, and nothing is set.

import { spawn } from 'node:child_process';
import { createInterface } from 'node:readline';
import WebSocket, { WebSocketServer } from 'ws';

const UNKNOWN = ['emulation.setMediaFeaturesOverride'];
const LISTENS = /WebDriver BiDi listening on (ws:\/\/\S+)/;

const firefox = spawn(process.env.FIREFOX ?? '/usr/bin/firefox-esr', process.argv.slice(2), {
  stdio: ['ignore', 'inherit', 'pipe'] });
firefox.once('exit', (code) => process.exit(code ?? 1));
['SIGTERM', 'SIGINT', 'SIGHUP'].forEach((signal) => process.on(signal, () => firefox.kill(signal)));
process.once('exit', () => firefox.kill('SIGKILL'));

createInterface({ input: firefox.stderr }).on('line', (line) => {
  const [, url] = LISTENS.exec(line) ?? [];
  url ? relay(url) : console.error(line);
});

function relay(url) {
  const server = new WebSocketServer({ host: '127.0.0.1', port: 0 });
  server.on('listening', () => console.error(`WebDriver BiDi listening on ws://127.0.0.1:${server.address().port}`));
  server.on('connection', (playwright) => {
    const browser = new WebSocket(`${url}/session`);
    const waiting = []; // commands that came before the socket to the browser was open
    playwright.on('message', (data) => {
      const { id, method } = JSON.parse(data);
      if (UNKNOWN.includes(method)) {
        playwright.send(JSON.stringify({ id, type: 'success', result: {} }));
      } else if (browser.readyState === WebSocket.OPEN) {
        browser.send(String(data));
      } else {
        waiting.push(String(data));
      }
    });
    browser.on('open', () => waiting.splice(0).forEach((data) => browser.send(data)));
    browser.on('message', (data) => playwright.send(String(data)));
    playwright.on('close', () => browser.close());
    browser.on('close', () => playwright.close());
  });
}
