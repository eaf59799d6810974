// Counts the connections that the lanes of all tabs hold. Over HTTP/1.1 a browser opens at most six to one host. No API
// says how many are in use, so each lane that holds a connection also holds a Web Lock: locks are listed over all tabs
// of an origin, and end with their tab. Without a secure context there are no locks, and a page counts only its own.

const PREFIX = 'overwire-connection-';

export const LIMIT = 6;

/** Over HTTP/2 and HTTP/3 all requests share one connection. */
const isShared = () => /^h[23]/.test(performance.getEntriesByType('navigation')[0]?.nextHopProtocol ?? '');

export class Connections extends EventTarget {
  /** Whether the browser has the limit. */
  limited = !isShared();
  /** Whether the connections of other tabs are counted too. */
  everywhere = navigator.locks !== undefined;

  #page = PREFIX + Array.from(crypto.getRandomValues(new Uint32Array(4)), (part) => part.toString(36)).join('');
  #own = new Map(); // name of a lock -> the function that releases it
  #made = 0;
  #others = 0;
  #channel = undefined; // to the other tabs

  constructor() {
    super();
    try {
      this.#channel = new BroadcastChannel('overwire-connections');
      this.#channel.addEventListener('message', () => this.refresh());
    } catch { // a browser that blocks the data of the site blocks locks and channels, too
      this.everywhere = false;
    }
    // A tab that crashed sends no message.
    document.addEventListener('visibilitychange', () => document.hidden || this.refresh());
  }

  get own() {
    return this.#own.size;
  }

  get held() {
    return this.own + this.#others;
  }

  get full() {
    return this.limited && this.held >= LIMIT;
  }

  /** Counts one more connection, until the returned function is called. */
  hold() {
    this.#made += 1;
    const name = `${this.#page}-${this.#made}`;
    const released = new Promise((resolve) => this.#own.set(name, resolve));
    if (this.everywhere) {
      this.#lock(name, released).catch(() => this.#countOwn());
    }
    this.#changed();
    return () => {
      this.#own.get(name)?.();
      this.#own.delete(name);
      this.#changed();
    };
  }

  async #lock(name, released) {
    await navigator.locks.request(name, () => {
      this.#channel.postMessage('held');
      return released;
    });
    this.#channel.postMessage('released');
  }

  /** The browser refuses locks. */
  #countOwn() {
    this.everywhere = false;
    this.#changed();
  }

  /** Counts the connections that other tabs hold. */
  async refresh() {
    if (!this.everywhere) {
      return;
    }
    let held;
    try {
      ({ held } = await navigator.locks.query());
    } catch {
      this.#countOwn();
      return;
    }
    // Compared by name: a listed lock can belong to this page, and be released by now.
    const others = held.filter(({ name }) => name.startsWith(PREFIX) && !name.startsWith(this.#page)).length;
    if (others !== this.#others) {
      this.#others = others;
      this.#changed();
    }
  }

  /** Whether all six are held. Counts again before it says yes: a tab that crashed sends no message. */
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
