// The row of facts in a lane's panel: its state, the numbers of heartbeats and of messages sent and received, its id.
// The heart beats when a heartbeat arrives; its number says the same without motion.

const BEAT = 450; // milliseconds
const SHORT = 6; // characters of an id that are shown
const SECOND = 1000; // milliseconds

export class Facts {
  #part;
  #clock = undefined; // the timer that counts down
  #counts = { sent: 0, received: 0, heartbeats: 0 };

  /** `part` finds an element of the panel by its name; `note` puts a line into the lane's log. */
  constructor(part, note) {
    this.#part = part;
    part('id').addEventListener('click', () => this.#copyId(note));
  }

  clear() {
    for (const name of Object.keys(this.#counts)) {
      this.#counts[name] = 0;
      this.#part(name).textContent = 0;
    }
    this.#part('heart').classList.remove('alive');
  }

  /** Adds one to `sent`, `received` or `heartbeats`. */
  count(name) {
    this.#counts[name] += 1;
    this.#part(name).textContent = this.#counts[name];
  }

  beat() {
    this.count('heartbeats');
    this.#part('heart').classList.add('alive');
    const calm = matchMedia('(prefers-reduced-motion: reduce)').matches;
    const steps = calm ? [{ opacity: 0.4 }, {}] : [{ scale: 1 }, { scale: 1.5, offset: 0.3 }, { scale: 1 }];
    this.#part('heart').querySelector('svg').animate(steps, { id: 'heartbeat', duration: BEAT, easing: 'ease-out' });
  }

  /** Shows the state, and counts the milliseconds down for which a lane waits. */
  state(text, wait) {
    clearInterval(this.#clock);
    this.#part('state').textContent = text;
    this.#part('state').title = text;
    this.#part('retry').hidden = !(wait > SECOND);
    if (wait > SECOND) {
      const end = performance.now() + wait;
      const show = () => { // short: the button is beside it
        this.#part('state').textContent = `retry in ${Math.max(0, Math.ceil((end - performance.now()) / SECOND))} s`;
      };
      show();
      this.#clock = setInterval(show, SECOND);
    }
  }

  id(id) {
    const button = this.#part('id');
    button.disabled = id === undefined;
    button.textContent = id === undefined ? 'no id' : id.slice(0, SHORT);
    button.title = id === undefined ? '' : `${id} (copies it)`;
    button.dataset.connection = id ?? '';
  }

  async #copyId(note) {
    const id = this.#part('id').dataset.connection;
    try {
      await navigator.clipboard.writeText(id);
      note(`The id ${id} was copied.`);
    } catch { // there is no clipboard, or it is not allowed, as on a page of http at another host
      note(`The id: ${id}`);
    }
  }
}
