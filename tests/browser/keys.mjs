// A file of access keys, as `overwire key` manages it.

import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

export class Keys {
  #folder = mkdtempSync(join(tmpdir(), 'overwire-keys-'));
  /** For the option `--keys`. */
  path = join(this.#folder, 'team.keys');

  /** Adds a key with these options, and returns its text. */
  add(name, ...options) {
    return /\bow_\S+/.exec(this.#manage('add', name, ...options))[0];
  }

  /** Revokes all keys of this name. */
  revoke(name) {
    this.#manage('revoke', name);
  }

  #manage(...args) {
    const { stdout, stderr, status } = spawnSync(process.env.OVERWIRE, ['key', ...args, '--keys', this.path],
      { encoding: 'utf8' });
    if (status !== 0) {
      throw new Error(stderr);
    }
    return stdout;
  }

  remove() {
    rmSync(this.#folder, { recursive: true });
  }
}
