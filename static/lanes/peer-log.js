// What makes a data channel resumable. No server keeps the messages between two peers, so each peer keeps
// the last ones that it sent itself, and numbers them. When a channel opens, both say which log is theirs and
// how far they have come in the logs of others (`hello`); each sends what the other lacks. It
// is the server's feed and cursor again, with as many feeds as there are peers.

import { uuid } from '/lanes/uuid.js';

const KEPT = 200; // messages, and positions in the logs of others

export class PeerLog {
  id = uuid();
  #sequence = 0; // of the last message
  #messages = []; // the last ones
  #have = new Map(); // by log, the sequence of the last message that came from it

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

  /** What a peer that said this `hello` is to be sent. A newcomer gets all that is kept, and misses nothing. */
  missing({ have }) {
    const known = have[this.id];
    const rest = this.#messages.filter(({ sequence }) => sequence > (known ?? 0));
    const hole = known !== undefined && rest.length > 0 && rest[0].sequence > known + 1;
    return hole ? [{ type: 'notice', recovered: false }, ...rest] : rest;
  }

  knows(log) {
    return this.#have.has(log);
  }

  /** Notes that a message came. False if it is one that had come before. */
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

/** A value from a data channel, if it is of use: another peer may have sent anything. */
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
    throw new Error('a peer sent what is no message');
  }
  return value;
}
