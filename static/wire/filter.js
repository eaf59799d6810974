// Which records are shown, as the controls say. A record is judged once for each change of the controls.

import { escape } from './bytes.js';

export class Filter {
  #controls;
  #version = 0; // a record notes the version for which it was judged

  constructor(controls) {
    this.#controls = controls;
  }

  /** The controls have changed. */
  renew() {
    this.#version += 1;
  }

  matches(record) {
    if (record.version !== this.#version) {
      record.version = this.#version;
      record.isMatch = this.#judge(record);
    }
    return record.isMatch;
  }

  #judge(record) {
    const { label, text, from, hidesKeepAlive } = this.#controls;
    const isOfLane = label === undefined || record.label === undefined || record.label === label;
    const isOfWay = !from || record.from === from;
    return isOfLane && isOfWay && !(hidesKeepAlive && record.isKeepAlive) && wordsOf(record).includes(text);
  }
}

/** All that a row shows of a record, in lower case. */
export function wordsOf(record) {
  record.words ??= [record.text ?? '', ...record.fields.flatMap((field) => (
    [field.name, escape(field.text), field.meaning]))].join('\n').toLowerCase();
  return record.words;
}
