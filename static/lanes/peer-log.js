// What makes a data channel resumable. No server keeps the messages between two peers, so each peer keeps and numbers
// the last messages that it sent. When a channel opens, each peer names its log and its positions in the logs of others
// (`hello`), and each sends what the other lacks. This is the server's feed and cursor again, with one feed for each
// peer.

import { uuid } from '../overwire.js';

const KEPT = 200; // messages, and positions in the logs of others

export class PeerLog {
  id = uuid();
  #sequence = 0; // of the last message
  #messages = []; // the last ones
  #have = new Map(); // log -> sequence of the last message that came from it

  append(message) {
    this.#sequence += 1;
    const numbered = { type: 'message', log: this.id, sequence: this.#sequence, ...message };
    this.#messages.push(numbered);
    if (this.#messages.length > KEPT) {
      this.#messages.shift();
    }
    return numbered;
  }

  hello() {
    return { type: 'hello', log: this.id, have: Object.fromEntries(this.#have) };
  }

  /** The messages to send to the peer of this `hello`. A newcomer gets all that are kept, and misses nothing. */
  missing({ have }) {
    const known = have[this.id];
    const rest = this.#messages.filter(({ sequence }) => sequence > (known ?? 0));
    const hole = known !== undefined && rest.length > 0 && rest[0].sequence > known + 1;
    return hole ? [{ type: 'notice', recovered: false }, ...rest] : rest;
  }

  knows(log) {
    return this.#have.has(log);
  }

  /** Notes that a message came. False if it had come before. */
  take({ log, sequence }) {
    if (sequence <= (this.#have.get(log) ?? 0)) {
      return false;
    }
    this.#have.delete(log); // so that the newest are last
    this.#have.set(log, sequence);
    if (this.#have.size > KEPT) {
      this.#have.delete(this.#have.keys().next().value);
    }
    return true;
  }
}

/** A value from a data channel. Throws if it is not a valid one: another peer can send anything. */
export function parsed(data) {
  const value = JSON.parse(data);
  const { type, log, have, sequence, id, sender, text, timestamp } = value ?? {};
  const isString = (one) => typeof one === 'string';
  const isGood = {
    hello: () => isString(log) && typeof have === 'object' && have !== null,
    message: () => [id, sender, text].every(isString) && Number.isSafeInteger(sequence) && Number.isFinite(timestamp),
    notice: () => true,
  };
  if (!Object.hasOwn(isGood, type) || !isGood[type]()) {
    throw new Error('a peer sent something that is not a message');
  }
  return value;
}
