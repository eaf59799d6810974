// Polls that brought nothing: their requests and answers say only that both sides are there. No DOM.

import { keyOf } from './exchanges.js';

const FEW = 8; // records of an exchange that are remembered; a poll has three
const OPEN = 256; // exchanges that are remembered
const NOTHING = /"messages":\s*\[\]/;

export class Idle {
  #open = new Map(); // key of an exchange -> its records so far

  /** Takes a record, and marks the records of an exchange whose answer has no message. */
  take(record) {
    const key = keyOf(record);
    if (!key) {
      return;
    }
    const all = this.#open.get(key) ?? [];
    this.#open.set(key, all);
    if (all.length < FEW) {
      all.push(record);
    }
    if (all.isIdle || (record.from === 'server' && record.fields.some(hasNothing))) {
      all.isIdle = true;
      all.forEach((one) => Object.assign(one, { isKeepAlive: true, version: undefined }));
    }
    if (record.type === 'end' || this.#open.size > OPEN) {
      this.#open.delete(record.type === 'end' ? key : this.#open.keys().next().value);
    }
  }
}

const hasNothing = ({ kind, text }) => kind === 'payload' && NOTHING.test(new TextDecoder().decode(text));
