// The server under test, as a child process: its own port, ended by SIGTERM, exit code 0 required.

import { spawn } from 'node:child_process';
import { createInterface } from 'node:readline';

export class Server {
  /** Starts a binary, by default the one named by OVERWIRE; `port` 0 lets the system choose. */
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
      throw new Error(`the server's first line holds no address: ${first}`);
    }
    server.url = `http://127.0.0.1:${server.port}`;
    return server;
  }

  /** Ends it as a service manager would. */
  async stop() {
    this.child.kill('SIGTERM');
    const code = await within(10_000, this.ended, 'the server to end after SIGTERM');
    if (code !== 0) {
      throw new Error(`after SIGTERM the server ended with ${code}, expected exit code 0`);
    }
  }

  /** Ends it as a crash would: it says nothing to anyone. */
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

/** `promise`, or an error that says what was waited for. */
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

/** Asks again until `condition` answers something true, and returns that. */
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
