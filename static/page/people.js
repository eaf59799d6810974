// The table of the connections that read the room: who, on what, since when; and a button that ends one. The server
// answers an operator only. It is asked while the table is shown.

import { make } from '../dom.js';
import { urlOf } from '../lanes/urls.js';

const EVERY = 2_000; // milliseconds
const ROWS = 100;
const SHORT = 8; // characters of an id that are shown
const UNITS = [['d', 86_400], ['h', 3_600], ['min', 60], ['s', 1]];
const TRANSPORTS = { long_poll: 'long poll', stream: 'stream', sse: 'SSE', websocket: 'WebSocket' };
const FULL = 'Not known: all six connections are held, and the question would wait.';

const element = (id) => document.getElementById(id);

/** `3 min` for 200 seconds: the largest unit alone. */
function duration(seconds) {
  const [unit, length] = UNITS.find(([, size]) => seconds >= size) ?? UNITS.at(-1);
  return `${Math.max(0, Math.floor(seconds / length))} ${unit}`;
}

export class People {
  #room;
  #connections;
  #own;
  #timer = undefined;

  /** `room` returns the name of the room, `own` the ids of the lanes of this page. */
  constructor({ room, connections, own }) {
    this.#room = room;
    this.#connections = connections;
    this.#own = own;
    element('people').addEventListener('toggle', ({ newState }) => {
      clearInterval(this.#timer);
      if (newState === 'open') {
        this.#timer = setInterval(() => document.hidden || this.show(), EVERY);
        this.show();
      }
    });
  }

  /** Asks, and fills the table. */
  async show() {
    element('people-room').textContent = this.#room();
    if (this.#connections.full) {
      return this.#say(FULL);
    }
    try {
      const query = new URLSearchParams({ room: this.#room(), limit: ROWS });
      const { connections, after } = await this.#ask(urlOf(`/api/connections?${query}`));
      this.#fill(connections);
      this.#say(after === null ? '' : `These are the first ${ROWS}.`);
    } catch (error) {
      this.#fill([]);
      this.#say(`Not known: ${error.message}`);
    }
  }

  async #ask(url, init = {}) {
    const response = await fetch(url, { signal: AbortSignal.timeout(EVERY), ...init });
    const answer = await response.json();
    if (!response.ok) {
      throw new Error(answer.error);
    }
    return answer;
  }

  #say(text) {
    element('people-says').textContent = text;
  }

  /** Rows of connections that stay are kept: a button that has the focus keeps it. */
  #fill(connections) {
    const body = element('people-rows');
    const before = new Map([...body.children].map((row) => [row.dataset.id, row]));
    const now = Date.now() / 1000;
    const rows = connections.map((one) => {
      const row = before.get(one.id) ?? this.#row(one);
      const texts = [duration(now - one.opened), duration(now - one.last_seen), one.messages_in, one.messages_out];
      row.querySelectorAll('[data-changes]').forEach((cell, at) => { cell.textContent = texts[at]; });
      return row;
    });
    if (rows.some((row, at) => row !== body.children[at]) || rows.length !== body.children.length) {
      body.replaceChildren(...rows);
    }
    element('people-table').hidden = rows.length === 0;
    element('people-none').hidden = rows.length > 0 || this.#connections.full;
  }

  #row({ id, transport, client_id: clientId, identity, client, opened }) {
    const own = this.#own().some((name) => clientId === name || clientId?.endsWith(`/${name}`));
    const name = identity ?? clientId?.slice(0, SHORT) ?? 'no name';
    const end = async () => {
      try {
        await this.#ask(urlOf(`/api/connections/${id}`), { method: 'DELETE' });
        await this.show();
      } catch (error) {
        this.#say(`Not ended: ${error.message}`);
      }
    };
    const started = new Date(opened * 1000).toLocaleString();
    const on = TRANSPORTS[transport] ?? transport;
    const cells = [`since ${started}`, undefined, undefined, undefined];
    return make('tr', { 'data-id': id, class: own ? 'own' : undefined },
      make('th', { scope: 'row', title: `${clientId ?? 'no client_id'} at ${client}` }, own ? `${name}, this page` : name),
      make('td', {}, on), ...cells.map((title) => make('td', { title, 'data-changes': true })),
      make('td', {}, make('button', { type: 'button', onclick: end, 'aria-label': `End ${name}, ${on}` }, 'End')));
  }
}
