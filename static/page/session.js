// Who uses the page, on a server with --keys: the form to log in, the name with its rights and rooms, and the end of
// the session. On a server without keys nothing of it is shown.
//
// The events are `begun`, when it is known that requests are allowed, perhaps again; and `over`, when it is known that
// they are not.

import { urlOf } from '../lanes/urls.js';
import { isSessionOver, request, whole } from '../overwire.js';

const ANSWER = 10_000; // milliseconds without a byte after which a request is given up
const OVER = 'The session is over.';

const element = (id) => document.getElementById(id);

async function ask(method, content) {
  const body = content && JSON.stringify(content);
  return JSON.parse(await whole(request(urlOf('/api/session'), { method, body, limit: ANSWER })));
}

export class Session extends EventTarget {
  /** Who this is: { name, via, rights, rooms, expires, tap_port }. Without --keys the name is null. */
  identity = undefined;
  /** Whether requests are refused until somebody logs in. */
  isOver = false;

  #asking = undefined; // the promise of an answer
  #others = undefined; // the channel to the other tabs of this origin, which have the same cookie

  constructor() {
    super();
    element('log-in').addEventListener('submit', (event) => {
      event.preventDefault();
      this.#logIn(element('key').value.trim());
    });
    element('log-out').addEventListener('click', () => this.#logOut());
    try {
      this.#others = new BroadcastChannel('overwire-session');
      this.#others.addEventListener('message', () => this.#askAgain());
    } catch { // a browser that blocks the data of the site: this tab finds out by itself
    }
  }

  /** Asks the server who this is. Never fails: without an answer nothing changes. */
  ask() {
    this.#asking ??= this.#ask().finally(() => { this.#asking = undefined; });
    return this.#asking;
  }

  async #ask() {
    try {
      this.#begin(await ask('GET'));
    } catch (error) {
      isSessionOver(error) && this.#end(this.identity ? OVER : '');
    }
  }

  /** Another tab has changed the session. An answer that is on its way may be older than that. */
  async #askAgain() {
    await this.#asking;
    await this.ask();
    this.identity && this.dispatchEvent(new Event('begun')); // perhaps as somebody else
  }

  async #logIn(key) {
    element('log-in-says').value = '';
    try {
      this.#begin(await ask('POST', { key }));
      element('key').value = '';
      this.#others?.postMessage('begun');
    } catch (error) {
      element('log-in-says').value = `Not logged in: ${error.message}.`;
      element('key').select();
    }
  }

  /** Stops the lanes first: a connection is needed, and they may hold all six. */
  async #logOut() {
    const { identity } = this;
    element('who').hidePopover();
    this.#end('You are logged out.');
    try {
      await ask('DELETE');
      this.#others?.postMessage('over');
    } catch (error) {
      if (!isSessionOver(error)) {
        this.#begin(identity);
        element('composer-says').value = `Not logged out: ${error.message}.`;
        element('composer-says').dataset.kind = 'problem';
      }
    }
    this.isOver && element('key').focus();
  }

  #begin(identity) {
    const isNew = this.identity === undefined;
    this.identity = identity;
    this.isOver = false;
    this.#show();
    isNew && this.dispatchEvent(new Event('begun'));
  }

  #end(why) {
    const isNew = !this.isOver;
    this.identity = undefined;
    this.isOver = true;
    this.#show();
    if (isNew) {
      element('log-in-says').value = why;
      document.activeElement === document.body && element('key').focus();
      this.dispatchEvent(new Event('over'));
    }
  }

  #show() {
    const { name, via, rights = [], rooms = [], expires } = this.identity ?? {};
    const isKnown = typeof name === 'string';
    element('log-in').hidden = !this.isOver;
    element('composer').hidden = this.isOver;
    element('who-button').hidden = !isKnown;
    element('sender').closest('label').hidden = isKnown || this.isOver;
    element('who-button').textContent = name ?? '';
    element('who-name').textContent = name ?? '';
    element('who-rights').textContent = rights.join(', ');
    element('who-rooms').textContent = rooms.join(', ');
    element('who-proxy').hidden = via !== 'proxy';
    element('log-out').parentElement.hidden = via !== 'session';
    element('who-until').textContent = expires ? new Date(expires * 1000).toLocaleString() : 'no end';
  }

  /** Whether the identity has a right. */
  may(right) {
    return this.identity?.rights.includes(right) ?? !this.isOver;
  }

  /** A room that may be entered: `room`, or else the first that the rooms of the identity name whole. */
  roomFor(room) {
    const { rooms = ['*'] } = this.identity ?? {};
    const matches = (pattern) => (pattern.endsWith('*') ? room.startsWith(pattern.slice(0, -1)) : room === pattern);
    return rooms.some(matches) ? room : rooms.find((pattern) => !pattern.endsWith('*')) ?? room;
  }
}
