// The entries of one message in all lanes. They flash together when the message arrives in a lane, and are marked
// together while one of them has the pointer or the focus.

const FLASH = 900; // milliseconds

export class Marks {
  #entries = new Map(); // id -> Set of elements
  #marked = undefined; // an id

  constructor(root) {
    root.addEventListener('pointerover', ({ target }) => this.mark(idOf(target)));
    root.addEventListener('pointerleave', () => this.mark(idOf(document.activeElement)));
    root.addEventListener('focusin', ({ target }) => this.mark(idOf(target)));
    root.addEventListener('focusout', () => this.mark(undefined));
  }

  add(id, element) {
    const entries = this.#entries.get(id) ?? new Set();
    this.#entries.set(id, entries.add(element));
    element.classList.toggle('marked', id === this.#marked);
  }

  remove(id, element) {
    const entries = this.#entries.get(id);
    entries?.delete(element);
    if (entries?.size === 0) {
      this.#entries.delete(id);
    }
  }

  mark(id) {
    if (id !== this.#marked) {
      this.#toggle(false);
      this.#marked = id;
      this.#toggle(true);
    }
  }

  /** Brings the entries of a message into sight, and marks them. */
  show(id) {
    this.#entries.get(id)?.forEach((entry) => entry.scrollIntoView({ block: 'nearest' }));
    this.mark(id);
    this.flash(id);
  }

  flash(id) {
    for (const entry of this.#entries.get(id) ?? []) {
      entry.getAnimations().forEach((animation) => animation.id === 'flash' && animation.cancel());
      entry.animate([{ backgroundColor: 'var(--flash)' }, {}], { id: 'flash', duration: FLASH, easing: 'ease-in' });
    }
  }

  #toggle(on) {
    this.#entries.get(this.#marked)?.forEach((entry) => entry.classList.toggle('marked', on));
  }
}

function idOf(element) {
  return element?.closest('[data-id]')?.dataset.id;
}
