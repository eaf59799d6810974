// WebKitGTK in a window that nobody sees, driven by WebDriver (w3.org/TR/webdriver2).

import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { freePort, until, within } from '../interop/server.mjs';

export class WebKit {
  #screen;
  #driver;
  #url;

  /** Starts a screen, and on it the browser, with a window of this size. */
  static async start(width = 1280, height = 900) {
    const webkit = new WebKit();
    webkit.#screen = spawn('Xvfb', ['-displayfd', '3', '-screen', '0', '1920x1200x24', '-nolisten', 'tcp'],
      { stdio: ['ignore', 'ignore', 'ignore', 'pipe'] });
    process.once('exit', () => webkit.#screen.kill('SIGKILL'));
    const [display] = await within(once(webkit.#screen.stdio[3], 'data'), 'the number of the screen');
    const port = await freePort();
    webkit.#driver = spawn('WebKitWebDriver', [`--port=${port}`], { stdio: 'ignore', env: {
      ...process.env, DISPLAY: `:${String(display).trim()}`, NO_AT_BRIDGE: '1',
      WEBKIT_DISABLE_COMPOSITING_MODE: '1', // without a GPU, a page of many letters has three frames a second
    } });
    process.once('exit', () => webkit.#driver.kill('SIGKILL'));
    webkit.#url = `http://127.0.0.1:${port}`;
    await until(() => fetch(`${webkit.#url}/status`).catch(() => false), 'the driver of WebKit');
    const { sessionId } = await webkit.#command('POST', '/session', {
      capabilities: { alwaysMatch: { 'webkitgtk:browserOptions': { args: ['--automation'] } } },
    });
    webkit.#url += `/session/${sessionId}`;
    await webkit.resize(width, height);
    return webkit;
  }

  async #command(method, path, content = undefined) {
    const response = await within(fetch(this.#url + path, { method, body: content && JSON.stringify(content) }), path);
    const { value } = await response.json();
    if (!response.ok) {
      throw new Error(`${path}: ${value.error}: ${value.message}`);
    }
    return value;
  }

  /** Loads `url`. Errors that the page throws later are kept. */
  async go(url) {
    await this.#command('POST', '/url', { url });
    await this.evaluate(() => {
      window.complaints = [];
      window.addEventListener('error', ({ message }) => window.complaints.push(message));
      window.addEventListener('unhandledrejection', ({ reason }) => window.complaints.push(String(reason)));
    });
  }

  complaints() {
    return this.evaluate(() => window.complaints);
  }

  /** Calls a function in the page with values, and returns its result. Both are JSON. */
  async evaluate(act, ...values) {
    const { value, error } = await this.#command('POST', '/execute/async', {
      script: `const [values, done] = arguments;
        Promise.resolve().then(() => (${act})(...values))
          .then((value) => done({ value }), (error) => done({ error: String(error) }));`,
      args: [values],
    });
    if (error) {
      throw new Error(error);
    }
    return value;
  }

  /** Waits until the function returns something that is true. */
  until(act, what) {
    return until(() => this.evaluate(act), what);
  }

  resize(width, height) {
    return this.#command('POST', '/window/rect', { width, height });
  }

  /** Returns a picture of the page, as PNG. */
  async screenshot() {
    return Buffer.from(await this.#command('GET', '/screenshot'), 'base64');
  }

  async close() {
    await this.#command('DELETE', '');
    this.#driver.kill();
    await once(this.#driver, 'exit');
    this.#screen.kill();
  }
}
