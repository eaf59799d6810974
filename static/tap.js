// The page's connection to the tap: one WebSocket, which shows the bytes of all requests whose URL has `tap=ID.label`.
// Each message of the tap is an event here, named by its `type`. Three more events are `lost` (the socket is closed:
// bytes are not shown until the next `open`), `failed` (it could not be opened) and `commanded` (a command was sent).

import { socketUrl } from './lanes/urls.js';
import { backoff } from './overwire.js';

const READY = 1_000; // milliseconds: the longest wait for the tap

const randomHex = () => (
  Array.from(crypto.getRandomValues(new Uint8Array(16)), (byte) => byte.toString(16).padStart(2, '0')).join(''));

export class Tap extends EventTarget {
  /** A secret: anyone who knows it sees the bytes. It never changes, because the lanes' URLs contain it. */
  id = randomHex();

  /** Whether the tap shows the bytes of requests that begin now. */
  open = false;

  #running = false;
  #socket = undefined;
  #timer = undefined;
  #failures = 0;
  #attempt = undefined; // resolves when the socket is open, or has failed
  #settle = () => {};

  constructor() {
    super();
    addEventListener('online', () => this.#hurry());
    document.addEventListener('visibilitychange', () => document.hidden || this.#hurry());
    // The browser keeps a page for the back button only if it has no connection. It reconnects when it is shown again.
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

  /** Waits until requests that begin now are shown, but not for long. Never fails. */
  async ready() {
    if (this.#running && !this.open) {
      this.#hurry();
      await Promise.race([this.#attempt, new Promise((resolve) => { setTimeout(resolve, READY); })]);
    }
  }

  /** Sends a command. False if the tap is closed. */
  command(object) {
    if (!this.open) {
      return false;
    }
    this.#socket.send(JSON.stringify(object));
    this.#say('commanded', object);
    return true;
  }

  #connect() {
    const socket = new WebSocket(socketUrl(`/-/tap/view?tap=${this.id}`));
    this.#socket = socket;
    this.#attempt = new Promise((resolve) => { this.#settle = resolve; });
    socket.addEventListener('message', ({ data }) => socket === this.#socket && this.#receive(JSON.parse(data)));
    socket.addEventListener('close', () => this.#end(socket));
  }

  #receive(event) {
    if (event.type === 'open') {
      this.open = true;
      this.#failures = 0;
      this.#settle();
    }
    this.#say(event.type, event);
  }

  /** A socket can close long after `stop`. By then there may be another socket. */
  #end(socket) {
    if (socket === undefined || socket !== this.#socket) {
      return;
    }
    this.#socket = undefined;
    this.#settle();
    const wasOpen = this.open;
    this.open = false;
    this.#say(wasOpen ? 'lost' : 'failed', {});
    if (this.#running) {
      this.#wait();
    }
  }

  #wait() {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.#connect(), backoff(this.#failures));
    this.#failures += 1;
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
