// Shows how many of the six connections are held, and asks before a lane starts that would need a seventh.

import { LIMIT } from './connections.js';

/** This machine has two names. To a visitor from another machine they are the visitor's own. */
const OTHER_NAMES = { localhost: '127.0.0.1', '127.0.0.1': 'localhost' };

const ONLY_HERE = 'Counted are the lanes of this tab only: those of other tabs can be counted only in a secure context, '
  + 'which https and localhost are, and if the browser allows the data of this site.';

const element = (id) => document.getElementById(id);

export class Gauge {
  #connections;
  #refused = []; // panels

  /** `start` starts a panel without asking the gauge. */
  constructor(connections, start) {
    this.#connections = connections;
    connections.addEventListener('change', () => this.#show());
    this.#show();
    const other = OTHER_NAMES[location.hostname];
    element('other-host').closest('li').hidden = other === undefined;
    if (other) {
      const url = new URL(location);
      url.hostname = other;
      element('other-host').href = url;
      element('other-host').textContent = url.host;
    }
    element('warning').addEventListener('close', () => {
      if (element('warning').returnValue === 'start') {
        this.#refused.forEach(start);
      }
      this.#refused = [];
    });
  }

  /** Explains why a panel was not started, and asks whether to start it. */
  refuse(panel) {
    this.#refused = [...new Set([...this.#refused, panel])];
    element('refused').textContent = this.#refused.map(({ title }) => title).join(', ');
    if (!element('warning').open) {
      element('warning').returnValue = '';
      element('warning').showModal();
    }
  }

  #show() {
    const { held, own, everywhere, limited } = this.#connections;
    document.querySelector('.gauge').hidden = !limited;
    if (!everywhere) {
      element('gauge-scope').textContent = ONLY_HERE;
    }
    const gauge = element('gauge');
    [...gauge.children].forEach((box, at) => {
      box.className = at < own ? 'own' : at < held ? 'other' : '';
    });
    const where = everywhere ? '' : ', this tab only';
    gauge.setAttribute('aria-valuenow', Math.min(held, LIMIT));
    gauge.setAttribute('aria-valuetext', `${Math.min(held, LIMIT)} of ${LIMIT} held, ${own} wanted by this tab`);
    gauge.title = `${held} wanted: ${own} by this tab, ${held - own} by other tabs`;
    gauge.classList.toggle('full', held >= LIMIT);
    const waiting = held > LIMIT ? `, ${held - LIMIT} wait` : '';
    element('gauge-text').textContent = `${Math.min(held, LIMIT)} of ${LIMIT}${waiting}${where}`;
  }
}
