// Shows how many of the six connections are held, and asks before a lane starts that would need a seventh.

import { LIMIT } from './connections.js';

const element = (id) => document.getElementById(id);

export class Gauge {
  #connections;
  #refused = []; // panels

  /** `start` starts a panel without asking the gauge. */
  constructor(connections, start) {
    this.#connections = connections;
    connections.addEventListener('change', () => this.#show());
    this.#show();
    if (!connections.everywhere) {
      element('gauge-scope').textContent = 'Counted are the lanes of this tab only: those of other tabs can be counted '
        + 'only in a secure context, which https and localhost are.';
    }
    const other = new URL(location);
    other.hostname = location.hostname === 'localhost' ? '127.0.0.1' : 'localhost';
    element('other-host').href = other;
    element('other-host').textContent = other.host;
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
    const { held, own, everywhere } = this.#connections;
    const gauge = element('gauge');
    [...gauge.children].forEach((box, at) => {
      box.className = at < own ? 'own' : at < held ? 'other' : '';
    });
    const where = everywhere ? '' : ', this tab only';
    gauge.setAttribute('aria-valuenow', Math.min(held, LIMIT));
    gauge.setAttribute('aria-valuetext', `${held} of ${LIMIT} held, ${own} by this tab`);
    gauge.title = `${held} held: ${own} by this tab, ${held - own} by other tabs`;
    gauge.classList.toggle('full', held >= LIMIT);
    element('gauge-text').textContent = `${held} of ${LIMIT}${where}`;
  }
}
