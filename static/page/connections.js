// The gauge of the six connections that a browser opens to one host over HTTP/1.1, over all tabs. No API tells how many
// are in use, so each lane that holds one holds a Web Lock too: locks are listed over all tabs of an origin, and end
// with their tab, however it ends. Without a secure context there are no locks, and a page counts only its own.

const PREFIX = 'overwire-connection-';

export const LIMIT = 6;

export class Connections extends EventTarget {
  /** Whether other tabs are counted too. */
  everywhere = navigator.locks !== undefined;

  #page = PREFIX + Array.from(crypto.getRandomValues(new Uint32Array(4)), (part) => part.toString(36)).join('');
  #own = new Map(); // name of a lock -> the function that releases it
  #made = 0;
  #others = 0;
  #channel = new BroadcastChannel('overwire-connections');

  constructor() {
    super();
    this.#channel.addEventListener('message', () => this.refresh());
    // A tab that is gone pings nobody.
    document.addEventListener('visibilitychange', () => document.hidden || this.refresh());
  }

  get own() {
    return this.#own.size;
  }

  get held() {
    return this.own + this.#others;
  }

  get full() {
    return this.held >= LIMIT;
  }

  /** Counts one more, until the returned function is called. */
  hold() {
    this.#made += 1;
    const name = `${this.#page}-${this.#made}`;
    const released = new Promise((resolve) => this.#own.set(name, resolve));
    if (this.everywhere) {
      navigator.locks.request(name, () => {
        this.#channel.postMessage('held');
        return released;
      }).then(() => this.#channel.postMessage('released'));
    }
    this.#changed();
    return () => {
      this.#own.get(name)?.();
      this.#own.delete(name);
      this.#changed();
    };
  }

  /** Counts what other tabs hold. */
  async refresh() {
    if (!this.everywhere) {
      return;
    }
    const { held } = await navigator.locks.query();
    // By their names, because what is listed as held may be of this page and released by now.
    const others = held.filter(({ name }) => name.startsWith(PREFIX) && !name.startsWith(this.#page)).length;
    if (others !== this.#others) {
      this.#others = others;
      this.#changed();
    }
  }

  /** Looks again before it says yes, because a tab that crashed tells nobody. */
  async areFull() {
    if (this.full) {
      await this.refresh();
    }
    return this.full;
  }

  #changed() {
    this.dispatchEvent(new Event('change'));
  }
}
