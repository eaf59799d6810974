// The server under test, as a child process on a free port. SIGTERM must end it with exit code 0.

import { spawn } from 'node:child_process';
import { createInterface } from 'node:readline';

export class Server {
  /** Starts `binary`, by default the one that OVERWIRE names. With `port` 0 the system chooses a port. */
  static async start(port = 0, binary = process.env.OVERWIRE, options = []) {
    if (!binary) {
      throw new Error('OVERWIRE must name the server binary; use the script `run`');
    }
    const server = new Server();
    server.child = spawn(binary, ['--port', String(port), ...options], { stdio: ['ignore', 'pipe', 'inherit'] });
    process.once('exit', () => server.child.kill('SIGKILL'));
    server.ended = new Promise((resolve) => server.child.once('exit', (code, signal) => resolve(signal ?? code)));
    const first = await new Promise((resolve, reject) => {
      createInterface({ input: server.child.stdout }).once('line', resolve);
      server.child.once('error', reject);
      server.ended.then((code) => reject(new Error(`the server ended with ${code} before it printed a line`)));
    });
    server.port = Number(/http:\/\/[^\s/]+:(\d+)/.exec(first)?.[1]);
    if (!server.port) {
      throw new Error(`the first line of the server has no address: ${first}`);
    }
    server.url = `http://127.0.0.1:${server.port}`;
    return server;
  }

  /** Shuts the server down like a service manager. */
  async stop() {
    this.child.kill('SIGTERM');
    const code = await within(10_000, this.ended, 'the server to end after SIGTERM');
    if (code !== 0) {
      throw new Error(`after SIGTERM the server ended with ${code}, expected exit code 0`);
    }
  }

  /** Ends the server like a crash: clients get no notice. */
  async kill() {
    this.child.kill('SIGKILL');
    await within(10_000, this.ended, 'the server to end after SIGKILL');
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

/** The result of `promise`, or an error with `what` when the time is over. */
export async function within(milliseconds, promise, what) {
  let timer;
  const late = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error(`waited ${milliseconds} ms for ${what}`)), milliseconds);
  });
  try {
    return await Promise.race([promise, late]);
  } finally {
    clearTimeout(timer);
  }
}

/** Repeats `condition` until its result is true, and returns the result. */
export async function until(milliseconds, condition, what) {
  const deadline = Date.now() + milliseconds;
  for (;;) {
    const value = await condition();
    if (value) {
      return value;
    }
    if (Date.now() > deadline) {
      throw new Error(`waited ${milliseconds} ms for ${typeof what === 'function' ? await what() : what}`);
    }
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}

let passed = 0;

/** Runs one check, whose name is a sentence. */
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
