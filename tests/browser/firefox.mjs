// Firefox without a window, driven by WebDriver BiDi (w3.org/TR/webdriver-bidi) over a WebSocket.

import { spawn } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import WebSocket from 'ws';
import { until, within } from '../interop/server.mjs';

export class Firefox {
  /** The errors that the pages threw. */
  complaints = [];

  #child;
  #profile = mkdtempSync(join(tmpdir(), 'overwire-firefox-'));
  #socket;
  #waiting = new Map(); // id of a command -> { resolve, reject }
  #made = 0;

  /** Starts the browser that FIREFOX names, with these preferences: { name: value }. */
  static async start(preferences = {}) {
    const firefox = new Firefox();
    const lines = Object.entries(preferences).map(([name, value]) => (
      `user_pref(${JSON.stringify(name)}, ${JSON.stringify(value)});\n`));
    writeFileSync(join(firefox.#profile, 'user.js'), lines.join(''));
    firefox.#child = spawn(process.env.FIREFOX ?? '/usr/bin/firefox-esr', [
      '--headless', '--no-remote', '--profile', firefox.#profile, '--remote-debugging-port', '0',
    ], { stdio: ['ignore', 'ignore', 'pipe'] });
    process.once('exit', () => firefox.#child.kill('SIGKILL'));
    await firefox.#connect(await within(firefox.#address(), 'Firefox to say its address'));
    return firefox;
  }

  #address() {
    return new Promise((resolve) => {
      createInterface({ input: this.#child.stderr }).on('line', (line) => {
        const [, url] = /WebDriver BiDi listening on (ws:\S+)/.exec(line) ?? [];
        url && resolve(url);
      });
    });
  }

  async #connect(url) {
    this.#socket = new WebSocket(`${url}/session`);
    await new Promise((resolve, reject) => {
      this.#socket.once('open', resolve);
      this.#socket.once('error', reject);
    });
    this.#socket.on('message', (data) => this.#hear(JSON.parse(data)));
    await this.command('session.new', { capabilities: {} });
    await this.command('session.subscribe', { events: ['log.entryAdded'] });
  }

  #hear({ id, type, method, result, params, error, message }) {
    if (type === 'success') {
      this.#waiting.get(id).resolve(result);
    } else if (type === 'error') {
      this.#waiting.get(id)?.reject(new Error(`${error}: ${message}`));
    } else if (method === 'log.entryAdded' && params.type === 'javascript' && params.level === 'error') {
      this.complaints.push(params.text);
    }
    this.#waiting.delete(id);
  }

  command(method, params) {
    this.#made += 1;
    const id = this.#made;
    this.#socket.send(JSON.stringify({ id, method, params }));
    return within(new Promise((resolve, reject) => this.#waiting.set(id, { resolve, reject })), method);
  }

  /** Opens a tab at `url`. */
  async open(url) {
    const { context } = await this.command('browsingContext.create', { type: 'tab' });
    await this.command('browsingContext.navigate', { context, url, wait: 'complete' });
    return new Tab(this, context);
  }

  async close() {
    await this.command('browser.close', {});
    await new Promise((resolve) => this.#child.once('exit', resolve));
    rmSync(this.#profile, { recursive: true, force: true });
  }
}

class Tab {
  #firefox;
  #context;

  constructor(firefox, context) {
    this.#firefox = firefox;
    this.#context = context;
  }

  /** Calls a function in the page with values, and returns its result. Both are JSON. */
  async evaluate(act, ...values) {
    const { result, exceptionDetails } = await this.#firefox.command('script.evaluate', {
      expression: `(async () => JSON.stringify(await (${act})(...${JSON.stringify(values)})))()`,
      target: { context: this.#context }, awaitPromise: true, resultOwnership: 'none', userActivation: true,
    });
    if (exceptionDetails) {
      throw new Error(exceptionDetails.text);
    }
    return result.value === undefined ? undefined : JSON.parse(result.value);
  }

  /** Waits until the function returns something that is true, and returns how long that took, in milliseconds. */
  async until(act, what) {
    const start = performance.now();
    await until(() => this.evaluate(act), what);
    return performance.now() - start;
  }

  /** Returns a picture of the window, as PNG. */
  async screenshot() {
    const { data } = await this.#firefox.command('browsingContext.captureScreenshot', { context: this.#context });
    return Buffer.from(data, 'base64');
  }

  go(url) {
    return this.#firefox.command('browsingContext.navigate', { context: this.#context, url, wait: 'complete' });
  }

  back() {
    return this.#firefox.command('browsingContext.traverseHistory', { context: this.#context, delta: -1 });
  }

  close() {
    return this.#firefox.command('browsingContext.close', { context: this.#context });
  }
}
