// The gauge of the six connections that a browser opens to one host over HTTP/1.1, over all tabs. No API tells how many
// are in use, so each lane that holds one holds a Web Lock too: locks are listed over all tabs of an origin, and end
// with their tab, however it ends. Without a secure context there are no locks, and a page counts only its own.

const PREFIX = 'overwire-connection-';

export const LIMIT = 6;

export class Connections extends EventTarget {
  /** Whether other tabs are counted too. */
  everywhere = navigator.locks !== undefined;

  #own = new Map(); // name of a lock -> the function that releases it
  #names = new Set(); // of this page's locks, those included that are about to end
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
    const name = PREFIX + Array.from(crypto.getRandomValues(new Uint32Array(4)), (part) => part.toString(36)).join('');
    const released = new Promise((resolve) => this.#own.set(name, resolve));
    if (this.everywhere) {
      this.#names.add(name);
      navigator.locks.request(name, () => {
        this.#channel.postMessage('held');
        return released;
      }).then(() => {
        this.#names.delete(name);
        this.#channel.postMessage('released');
      });
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
    const others = held.filter(({ name }) => name.startsWith(PREFIX) && !this.#names.has(name)).length;
    if (others !== this.#others) {
      this.#others = others;
      this.#changed();
    }
  }

  #changed() {
    this.dispatchEvent(new Event('change'));
  }
}
