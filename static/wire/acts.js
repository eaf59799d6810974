// The buttons of one row, in the line of detail: its bytes as hex, its request for curl, its message in the lanes.

import { make } from '../dom.js';

const ID = /[0-9a-f]{8}-[0-9a-f]{4}-8[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}/;

/** The id of a message in a field, or in the first field of a record that has one. Undefined if there is none. */
export const idIn = (...fields) => fields.map(({ text }) => ID.exec(new TextDecoder().decode(text))?.[0]).find(Boolean);

export class Acts {
  element;
  #record = undefined;
  #curl;
  #message;

  /** `act` has what they do: hex(record), curl(record), and message(id) unless there are no lanes. */
  constructor(act) {
    const button = (name, title, press) => (
      make('button', { type: 'button', class: 'wire-act', 'data-act': name, onclick: press }, title));
    this.#curl = button('curl', 'Copy as curl', () => act.curl(this.#record));
    this.#message = button('message', 'Show message', () => act.message(idIn(...this.#record.fields)));
    this.element = make('span', { class: 'wire-acts', hidden: true },
      button('hex', 'Copy hex', () => act.hex(this.#record)), this.#curl, ...act.message ? [this.#message] : []);
  }

  /** They act on this record from now on. Without one they are hidden. */
  show(record) {
    this.#record = record;
    this.element.hidden = !record || record.fields.length === 0;
    this.#curl.hidden = !record?.exchange;
    this.#message.hidden = !record || !idIn(...record.fields);
  }
}
