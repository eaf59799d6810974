// Waiting: for the next attempt, and for a sign of life.

const BACKOFF_BASE = 500; // milliseconds
const BACKOFF_CAP = 30_000;

/**
 * How long to wait after so many failures. Full jitter: a thousand clients of a server that was restarted
 * must not all return at one moment.
 */
export function backoff(failures) {
  return Math.random() * Math.min(BACKOFF_CAP, BACKOFF_BASE * 2 ** failures);
}

/**
 * Waits, but not past an abort, and not when the network is back or the tab is looked at again; leaves
 * no timer behind.
 */
export function sleep(milliseconds, signal) {
  return new Promise((resolve) => {
    const over = new AbortController();
    const timer = setTimeout(() => done(), milliseconds);
    const listen = (target, name) => target.addEventListener(name, done, { signal: over.signal });
    listen(signal, 'abort');
    listen(window, 'online');
    listen(document, 'visibilitychange');
    if (signal.aborted) {
      done();
    }
    function done({ type } = {}) {
      if (type === 'visibilitychange' && document.hidden) {
        return;
      }
      clearTimeout(timer);
      over.abort();
      resolve();
    }
  });
}

/**
 * Calls `act` with an error when `heard` was not called for `limit` milliseconds; `end` stops it.
 *
 * A connection whose other end vanished (a cable pulled, a proxy that forgot about it) is not closed. It
 * is silent, and nothing tells the reader. So every wait has a limit. Each byte that comes begins it
 * anew: a slow answer is not a dead one.
 */
export class Silence {
  #limit;
  #act;
  #question;
  #timer;

  /**
   * With `question`, `{ after, ask }`, it asks first, `after` so many milliseconds, and the rest of the limit
   * begins with that. One timer follows the other because a hidden tab runs its timers late and
   * together: the question must have its time to be answered even then.
   */
  constructor(limit, act, question) {
    this.#limit = limit;
    this.#act = () => act(new Error(`nothing came for ${limit / 1000} s`));
    this.#question = question;
    this.heard();
  }

  heard() {
    this.end();
    if (!this.#question) {
      this.#timer = setTimeout(this.#act, this.#limit);
      return;
    }
    const { after, ask } = this.#question;
    this.#timer = setTimeout(() => {
      this.#timer = setTimeout(this.#act, this.#limit - after);
      ask();
    }, after);
  }

  end() {
    clearTimeout(this.#timer);
  }
}
