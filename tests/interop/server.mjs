// The server under test, as a child process on a free port. SIGTERM must end it with exit code 0.

import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { createServer } from 'node:net';
import { createInterface } from 'node:readline';

export class Server {
  /** Starts `binary`, by default the one that OVERWIRE names, without a tap. The system chooses a port for 0. */
  static async start(port = 0, binary = undefined, options = binary ? [] : ['--no-tap']) {
    const server = new Server();
    [server.port] = await server.#spawn(binary, ['--port', String(port), ...options], 1);
    server.url = `http://127.0.0.1:${server.port}`;
    return server;
  }

  /** Starts the binary that OVERWIRE names with a tap. `tapUrl` is the same server, seen through the tap. */
  static async tapped({ port = 0, tapPort = 0, options = [] } = {}) {
    const server = new Server();
    const args = ['--port', String(port), '--tap-port', String(tapPort), ...options];
    [server.port, server.tapPort] = await server.#spawn(undefined, args, 2);
    server.url = `http://127.0.0.1:${server.port}`;
    server.tapUrl = `http://127.0.0.1:${server.tapPort}`;
    return server;
  }

  /** Starts `wire tap` in front of the server at `target`, with the binary that WIRE names. */
  static async tapOf(target) {
    const server = new Server();
    [server.port] = await server.#spawn(process.env.WIRE, ['tap', target, '--port', '0'], 1);
    server.url = `http://127.0.0.1:${server.port}`;
    return server;
  }

  /** Starts a binary and returns the ports in its first lines. */
  async #spawn(binary = process.env.OVERWIRE, args, lines) {
    if (!binary) {
      throw new Error('OVERWIRE must name the server binary; use the script `run`');
    }
    this.child = spawn(binary, args, { stdio: ['ignore', 'pipe', 'inherit'] });
    process.once('exit', () => this.child.kill('SIGKILL'));
    this.ended = new Promise((resolve) => this.child.once('exit', (code, signal) => resolve(signal ?? code)));
    const printed = [];
    await new Promise((resolve, reject) => {
      createInterface({ input: this.child.stdout })
        .on('line', (line) => printed.push(line) === lines && resolve());
      this.child.once('error', reject);
      this.ended.then((code) => reject(new Error(`the server ended with ${code} after ${printed.length} lines`)));
    });
    return printed.slice(0, lines).map((line) => {
      const port = Number(/http:\/\/[^\s/]+:(\d+)/.exec(line)?.[1]);
      if (!port) {
        throw new Error(`this line of the server has no address: ${line}`);
      }
      return port;
    });
  }

  /** Shuts the server down like a service manager. */
  async stop() {
    this.child.kill('SIGTERM');
    const code = await within(this.ended, 'the server to end after SIGTERM');
    if (code !== 0) {
      throw new Error(`after SIGTERM the server ended with ${code}, expected exit code 0`);
    }
  }

  /** Ends the server like a crash: clients get no notice. */
  async kill() {
    this.child.kill('SIGKILL');
    await within(this.ended, 'the server to end after SIGKILL');
  }

  async get(path) {
    const response = await fetch(this.url + path);
    return response.json();
  }

  async post(path, content) {
    const response = await fetch(this.url + path, { method: 'POST', body: JSON.stringify(content) });
    return response.json();
  }

  async delete(path) {
    const response = await fetch(this.url + path, { method: 'DELETE' });
    return response.json();
  }
}

/** The time after which a test gives up, in milliseconds. Nothing takes it unless it hangs. */
const PATIENCE = 60_000;

/** The result of `promise`, or an error with `what` when the time is over. */
export async function within(promise, what) {
  let timer;
  const late = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error(`waited ${PATIENCE} ms for ${what}`)), PATIENCE);
  });
  try {
    return await Promise.race([promise, late]);
  } finally {
    clearTimeout(timer);
  }
}

/** Repeats `condition` until its result is true, and returns the result. */
export async function until(condition, what) {
  const deadline = performance.now() + PATIENCE;
  for (;;) {
    const value = await condition();
    if (value) {
      return value;
    }
    if (performance.now() > deadline) {
      throw new Error(`waited ${PATIENCE} ms for ${typeof what === 'function' ? await what() : what}`);
    }
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}

/** A port that was free a moment ago, for a program that does not say which one the system chose. */
export async function freePort() {
  const listener = createServer().listen(0, '127.0.0.1');
  await once(listener, 'listening');
  const { port } = listener.address();
  listener.close();
  await once(listener, 'close');
  return port;
}

let passed = 0;

/** One check, named by a sentence. */
export async function check(sentence, body) {
  try {
    await body();
  } catch (error) {
    console.error(`FAILED  ${sentence}\n        ${error.stack ?? error}`);
    process.exit(1);
  }
  passed += 1;
  console.log(`ok      ${sentence}`);
}

export function finish() {
  console.log(`${passed} checks passed`);
  process.exit(0);
}
