// What every lane does, whatever its transport: begin, go on after a failure, resume, stop.
//
// A lane reports by events: `state` (a text), `message` (what the room was sent), `notice` (messages are
// missing), `problem` (a text).

const BACKOFF_BASE = 500; // milliseconds
const BACKOFF_CAP = 30_000;

export const ROOM = 'general';

export class Lane extends EventTarget {
  /** Names this connection to the server: GET /api/stats counts it, DELETE /api/client/{id} ends it. */
  id = uuid();
  /** The id of the last message received. Whatever the transport, it goes on behind this. */
  cursor = undefined;
  #running = undefined; // the AbortController of what `start` began
  #open = false;
  #failures = 0; // since the last success

  /**
   * To be written by each lane: connects, says `this.opened()`, hands over what comes, and returns or
   * throws when the connection is over. Must end when `signal` aborts.
   */
  async connect(signal) {
    throw new Error('not implemented');
  }

  async start() {
    if (this.#running) {
      return;
    }
    const running = new AbortController();
    const { signal } = running;
    this.#running = running;
    this.#failures = 0;
    while (!signal.aborted) {
      this.#open = false;
      this.#report('state', 'connecting');
      let end = 'the server ended the connection';
      try {
        if (this.cursor === undefined) {
          // A question that is answered at once: what the room retains, and where it stands.
          this.take(await getJson(this.url('/api/messages'), signal));
        }
        signal.throwIfAborted();
        await this.connect(signal);
      } catch (error) {
        end = error.message;
      }
      if (signal.aborted) {
        return;
      }
      // Full jitter: a thousand clients of a server that was restarted must not all return at one moment.
      const wait = Math.random() * Math.min(BACKOFF_CAP, BACKOFF_BASE * 2 ** this.#failures);
      this.#failures += 1;
      this.#report('problem', end);
      this.#report('state', `waiting to retry in ${(wait / 1000).toFixed(1)} s`);
      await sleep(wait, signal);
    }
  }

  stop() {
    if (this.#running) {
      this.#running.abort();
      this.#running = undefined;
      this.#report('state', 'stopped');
    }
  }

  /** Most transports lead only from the server to the client; the other direction is a POST. */
  async send(sender, text) {
    const response = await fetch('/api/send', {
      method: 'POST',
      headers: { 'Content-Type': 'application/json' },
      body: JSON.stringify({ sender, text, room: ROOM }),
    });
    await checked(response);
  }

  opened() {
    this.#failures = 0;
    if (!this.#open) {
      this.#open = true;
      this.#report('state', 'open');
    }
  }

  /** The connection was lost, and what reconnects it is not this loop. */
  interrupted(text) {
    if (this.#open) {
      this.#open = false;
      this.#report('problem', text);
      this.#report('state', 'connecting');
    }
  }

  receive(message) {
    this.cursor = message.id;
    this.#report('message', message);
  }

  /** The answer to a poll. It names the newest message also when it brings none. */
  take(answer) {
    this.checkRecovered(answer);
    answer.messages.forEach((message) => this.receive(message));
    this.cursor = answer.last_message_id;
  }

  checkRecovered({ recovered, last_message_id }) {
    if (recovered === false) {
      this.cursor = last_message_id; // ours was too old, or of a server that is gone; all that is retained follows
      this.#report('notice', 'Messages are missing: the server no longer had everything since the last one.');
    }
  }

  /** One JSON value from a stream or a socket: a message, a notice or an error. */
  receiveValue(value) {
    if (value.type === 'notice') {
      this.checkRecovered(value);
    } else if (value.type === 'error') {
      this.#report('problem', value.error);
    } else {
      this.receive(value);
    }
  }

  /** `path` with the room, this lane's id, and the cursor if there is one. */
  url(path, cursorName = 'last_message_id') {
    const query = new URLSearchParams({ room: ROOM, client_id: this.id });
    if (this.cursor !== undefined) {
      query.set(cursorName, this.cursor);
    }
    return `${path}?${query}`;
  }

  #report(name, detail) {
    this.dispatchEvent(new CustomEvent(name, { detail }));
  }
}

export async function getJson(url, signal) {
  return (await checked(await fetch(url, { signal }))).json();
}

/** The response if its status is a success; else an error with what the server said was wrong. */
export async function checked(response) {
  if (response.ok) {
    return response;
  }
  const said = await response.json().catch(() => ({}));
  throw new Error(`${response.status} ${said.error ?? response.statusText}`);
}

/** Waits, but not past an abort, and leaves no timer behind. */
export function sleep(milliseconds, signal) {
  return new Promise((resolve) => {
    const timer = setTimeout(done, milliseconds);
    signal.addEventListener('abort', done);
    function done() {
      clearTimeout(timer);
      signal.removeEventListener('abort', done);
      resolve();
    }
  });
}

/** A UUID of version 4 (RFC 9562, section 5.4). `crypto.randomUUID` exists only in a secure context. */
function uuid() {
  if (crypto.randomUUID) {
    return crypto.randomUUID();
  }
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  bytes[6] = (bytes[6] & 0x0f) | 0x40;
  bytes[8] = (bytes[8] & 0x3f) | 0x80;
  const hex = Array.from(bytes, (byte) => byte.toString(16).padStart(2, '0')).join('');
  return hex.replace(/^(.{8})(.{4})(.{4})(.{4})/, '$1-$2-$3-$4-');
}
