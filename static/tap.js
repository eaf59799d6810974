// The second connection, over which the server shows the bytes of the others: one WebSocket to /api/tap for the
// whole page. Requests whose URL has `tap=ID.label` are shown on it. Everything that the server says is an event here,
// named by its `type`; besides, there are `lost` (the tap is closed, and what passes until the next `open` is not seen)
// and `commanded` (what command() was given, if it was sent).

const FIRST_WAIT = 500; // milliseconds
const LONGEST_WAIT = 30_000;
const READY = 1_000; // milliseconds that one waits for it, at most

export class Tap extends EventTarget {
  /** Whoever knows it sees the bytes, so it cannot be guessed; it stays the same, because the lanes' URLs have it. */
  id = Array.from(crypto.getRandomValues(new Uint8Array(16)), (byte) => byte.toString(16).padStart(2, '0')).join('');

  /** Whether the server allows faults. */
  chaos = false;

  /** Whether the server listens, and shows the bytes of requests that begin now. */
  open = false;

  #running = false;
  #socket = undefined;
  #timer = undefined;
  #failures = 0;
  #attempt = undefined; // resolves when the server listens, or will not for now
  #settle = () => {};

  constructor() {
    super();
    addEventListener('online', () => this.#hurry());
    document.addEventListener('visibilitychange', () => document.hidden || this.#hurry());
    // A page that is kept for the back button must not keep a connection, and goes on when it is shown again.
    let kept = false;
    addEventListener('pagehide', () => {
      kept = this.#running;
      this.stop();
    });
    addEventListener('pageshow', ({ persisted }) => persisted && kept && this.start());
  }

  /** The value of the parameter `tap` in the URLs of a lane. */
  of(label) {
    return `${this.id}.${label}`;
  }

  start() {
    if (!this.#running) {
      this.#running = true;
      this.#failures = 0;
      this.#connect();
    }
  }

  stop() {
    this.#running = false;
    clearTimeout(this.#timer);
    this.#socket?.close(1000);
    this.#end(this.#socket);
  }

  /** To be waited for before a request that is to be seen. It does not wait for long, and never fails. */
  async ready() {
    if (this.#running && !this.open) {
      this.#hurry();
      await Promise.race([this.#attempt, new Promise((resolve) => { setTimeout(resolve, READY); })]);
    }
  }

  /** Tells the server to do something; false when it cannot be told. */
  command(object) {
    if (!this.open) {
      return false;
    }
    this.#socket.send(JSON.stringify(object));
    this.#say('commanded', object);
    return true;
  }

  #connect() {
    const url = new URL(`/api/tap?tap=${this.id}`, location.href);
    url.protocol = location.protocol === 'https:' ? 'wss:' : 'ws:';
    const socket = new WebSocket(url);
    this.#socket = socket;
    this.#attempt = new Promise((resolve) => { this.#settle = resolve; });
    socket.addEventListener('message', ({ data }) => socket === this.#socket && this.#receive(JSON.parse(data)));
    socket.addEventListener('close', () => this.#end(socket));
  }

  #receive(event) {
    if (event.type === 'open') {
      this.open = true;
      this.chaos = event.chaos === true;
      this.#failures = 0;
      this.#settle();
    }
    this.#say(event.type, event);
  }

  /** A socket that was stopped may close long after; by then another one may be in its place. */
  #end(socket) {
    if (socket === undefined || socket !== this.#socket) {
      return;
    }
    this.#socket = undefined;
    this.#settle();
    const wasOpen = this.open;
    this.open = false;
    if (wasOpen) {
      this.#say('lost', {});
    }
    if (this.#running) {
      this.#wait();
    }
  }

  /** Waits for a random part of a time that doubles, so that many pages do not come back at one moment. */
  #wait() {
    const longest = Math.min(LONGEST_WAIT, FIRST_WAIT * 2 ** this.#failures);
    this.#failures += 1;
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.#connect(), Math.random() * longest);
  }

  #hurry() {
    if (this.#running && this.#socket === undefined) {
      clearTimeout(this.#timer);
      this.#connect();
    }
  }

  #say(type, detail) {
    this.dispatchEvent(new CustomEvent(type, { detail }));
  }
}
