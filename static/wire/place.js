// The reader's place in a list that grows at its end and loses rows anywhere else. At the end the list follows what is
// new; anywhere else what the reader looks at stays where it is.

const NEAR = 4; // pixels from the end that are the end

export class Place {
  /** Whether the list follows its end. */
  isAtEnd = true;

  #list;
  #rows;
  #changed;
  #top = 0; // where the list was scrolled to when it was last looked at
  #rest = 0; // the part of a pixel by which it is not where it should be: parts would add up

  /** `rows` is in `list`, which scrolls; `changed` is called when the reader has scrolled. */
  constructor(list, rows, changed) {
    [this.#list, this.#rows, this.#changed] = [list, rows, changed];
    list.addEventListener('scroll', () => this.#scrolled());
    const observer = new ResizeObserver(() => this.settle());
    observer.observe(list);
    observer.observe(rows);
  }

  toEnd() {
    this.isAtEnd = true;
    this.settle();
    this.#changed();
  }

  /** Goes on following the end, if it did. */
  settle() {
    if (this.isAtEnd) {
      this.#list.scrollTop = this.#list.scrollHeight;
      this.#top = this.#list.scrollTop;
    }
  }

  /** The reader has changed the height of a row: what he looks at is not to be carried away. */
  look() {
    this.isAtEnd = this.#gap() < NEAR;
    this.#changed();
  }

  /** Those of `rows` that are not seen. */
  unseen(rows) {
    const list = this.#list.getBoundingClientRect();
    return rows.filter((row) => {
      const { top, bottom } = row.getBoundingClientRect();
      return row.hidden || bottom <= list.top || top >= list.bottom;
    });
  }

  /** Does `remove`, which takes away rows that are not seen, and leaves those that are where they are. */
  keep(remove) {
    const { top } = this.#list.getBoundingClientRect();
    const seen = [...this.#rows.children].find((row) => !row.hidden && row.getBoundingClientRect().bottom > top);
    const before = seen?.getBoundingClientRect().top;
    remove();
    if (seen?.isConnected) {
      const wanted = this.#list.scrollTop + seen.getBoundingClientRect().top - before + this.#rest;
      this.#list.scrollTop = wanted;
      this.#top = this.#list.scrollTop;
      this.#rest = Math.abs(wanted - this.#top) < 1 ? wanted - this.#top : 0;
    }
  }

  #gap() {
    return this.#list.scrollHeight - this.#list.scrollTop - this.#list.clientHeight;
  }

  /** The list can also be further from its end because it has grown: only who scrolls up leaves the end. */
  #scrolled() {
    const { scrollTop } = this.#list;
    if (this.#gap() < NEAR) {
      this.isAtEnd = true;
    } else if (scrollTop < this.#top) {
      this.isAtEnd = false;
    }
    if (scrollTop !== this.#top) {
      this.#top = scrollTop;
      this.#rest = 0;
    }
    this.#changed();
  }
}
