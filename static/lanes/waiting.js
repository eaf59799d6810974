// Waiting: for the next attempt, and for a sign of life.

const BACKOFF_BASE = 500; // milliseconds
const BACKOFF_CAP = 30_000;

/**
 * The milliseconds to wait after a number of failures. The wait is random between 0 and its longest (full jitter):
 * otherwise a thousand clients of a server that was restarted would return in one moment.
 */
export function backoff(failures) {
  return Math.random() * Math.min(BACKOFF_CAP, BACKOFF_BASE * 2 ** failures);
}

/**
 * Waits. Ends early when `signal` aborts, when the network is back, and when the tab is shown again. Leaves no timer
 * behind.
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
 * Makes a controller that also aborts when `signal` does. `AbortSignal.any` would do, but WebKit collects its result
 * while a request still uses it, and then the request never ends.
 */
export function controllerWithin(signal) {
  const controller = new AbortController();
  const follow = () => controller.abort(signal.reason);
  signal?.addEventListener('abort', follow, { signal: controller.signal });
  if (signal?.aborted) {
    follow();
  }
  return controller;
}

/**
 * A watch on silence: calls `act` with an error when `heard` was not called for `limit` milliseconds. `end` stops it.
 *
 * A connection is not closed when its other end vanishes, because a cable was pulled or a proxy forgot it. It is
 * silent, and nothing notifies the reader. So every wait has a limit. Each byte starts the limit again: a slow answer
 * is not a dead one.
 */
export class Silence {
  #limit;
  #act;
  #question;
  #timer;

  /**
   * With `question`, `{ after, ask }`, it calls `ask` after `after` milliseconds, and the rest of the limit begins
   * then. One timer follows the other, because a hidden tab runs its timers late and together, and the answer needs its
   * time even then.
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
