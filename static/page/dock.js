// The dock below the lanes: tabs by the pattern of WAI-ARIA, a button that folds them, and a splitter for their height.

import { keep, recall } from './kept.js';

const STEP = 24; // pixels for each press of an arrow key

export class Dock {
  #tabs = [...document.querySelectorAll('#dock [role=tab]')];
  #fold = document.querySelector('#fold');
  #maximise = document.querySelector('#maximise');
  #tools = document.querySelector('#tools');
  #splitter = document.querySelector('#splitter');

  constructor() {
    this.#fold.addEventListener('click', () => this.open(this.#tools.hidden));
    this.#maximise.addEventListener('click', () => this.#fill(!document.body.classList.contains('maximised')));
    recall('tools') && this.#resize(recall('tools'));
    for (const tab of this.#tabs) {
      tab.addEventListener('click', () => this.show(tab.getAttribute('aria-controls')));
      tab.addEventListener('keydown', (event) => this.#move(event));
    }
    this.#splitter.addEventListener('keydown', ({ key }) => {
      this.#resize(this.#tools.clientHeight + ({ ArrowUp: STEP, ArrowDown: -STEP }[key] ?? 0));
    });
    this.#splitter.addEventListener('pointerdown', ({ pointerId }) => this.#splitter.setPointerCapture(pointerId));
    this.#splitter.addEventListener('pointermove', ({ pointerId, clientY }) => {
      if (this.#splitter.hasPointerCapture(pointerId)) {
        this.#resize(this.#tools.clientHeight + this.#splitter.getBoundingClientRect().top - clientY);
      }
    });
    const told = () => this.#splitter.setAttribute('aria-valuenow', this.#tools.clientHeight);
    new ResizeObserver(told).observe(this.#tools);
  }

  /** Shows the tools, or only their tabs. */
  open(open) {
    open || this.#fill(false);
    this.#tools.hidden = !open;
    this.#fold.setAttribute('aria-expanded', open);
    this.#fold.textContent = open ? 'Hide' : 'Show';
  }

  show(name) {
    if (document.getElementById(name).hidden) {
      this.#tools.scrollTop = 0; // the position in the former tool means nothing in this one
    }
    for (const tab of this.#tabs) {
      const controls = tab.getAttribute('aria-controls');
      tab.setAttribute('aria-selected', controls === name);
      tab.tabIndex = controls === name ? 0 : -1;
      document.getElementById(controls).hidden = controls !== name;
    }
    this.open(true);
  }

  /** Gives the tools the room of the lanes, or gives it back. */
  #fill(isFull) {
    document.body.classList.toggle('maximised', isFull);
    this.#maximise.setAttribute('aria-pressed', String(isFull));
    isFull && this.open(true);
  }

  /** Within what page.css allows. */
  #resize(height) {
    document.documentElement.style.setProperty('--tools', `${height}px`);
    keep('tools', height);
  }

  #move(event) {
    const tabs = this.#tabs.filter((tab) => !tab.hidden);
    const at = tabs.indexOf(event.target);
    const to = {
      ArrowLeft: tabs.at(at - 1), ArrowRight: tabs[(at + 1) % tabs.length], Home: tabs[0], End: tabs.at(-1),
    }[event.key];
    if (to) {
      event.preventDefault();
      to.focus();
      to.click();
    }
  }
}
