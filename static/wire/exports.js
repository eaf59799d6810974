// What can be taken out of the view: the rows as text or as HAR, one row as hex, one request as a line for curl.

import { make } from '../dom.js';
import { hex } from './bytes.js';
import { curlOf } from './curl.js';
import { exchangesOf, keyOf } from './exchanges.js';
import { harOf } from './har.js';
import { textOf } from './text.js';

const KEPT = 60_000; // milliseconds for which a file can be downloaded

export class Exports {
  #recording;
  #controls;
  #filter;

  constructor(recording, controls, filter) {
    [this.#recording, this.#controls, this.#filter] = [recording, controls, filter];
    const on = (type, act) => controls.addEventListener(type, act);
    on('copy', () => this.#copy(this.#asText(), 'Save as text works.'));
    on('save', () => this.#save(this.#asText(), 'text/plain', 'txt'));
    on('har', () => this.#save(harOf(exchangesOf(this.#shown())), 'application/json', 'har'));
  }

  copyHex(record) {
    this.#copy(hex(record.bytes));
  }

  /** The request may be in other rows than this one. */
  copyCurl(record) {
    const key = keyOf(record);
    const [exchange] = key ? exchangesOf(this.#recording.records.filter((one) => keyOf(one) === key)) : [];
    const line = exchange && curlOf(exchange);
    if (line) {
      this.#copy(line);
    } else {
      this.#controls.tell('The request of this row is not kept.');
    }
  }

  #shown() {
    return this.#recording.records.filter((record) => this.#filter.matches(record));
  }

  #asText() {
    return textOf(this.#shown(), this.#recording.base);
  }

  async #copy(text, otherwise = '') {
    try {
      await navigator.clipboard.writeText(text);
      this.#controls.tell('Copied.');
    } catch (error) {
      this.#controls.tell(`Not copied: ${error.message}. ${otherwise}`);
    }
  }

  #save(text, type, ending) {
    const url = URL.createObjectURL(new Blob([text], { type }));
    make('a', { href: url, download: `overwire-${this.#controls.label ?? 'all'}.${ending}` }).click();
    setTimeout(() => URL.revokeObjectURL(url), KEPT);
  }
}
