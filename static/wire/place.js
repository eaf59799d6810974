// The reader's place in a list that grows at its end and loses rows anywhere. At the end, the list follows the new
// rows. Anywhere else, the rows that the reader sees stay where they are.

const NEAR = 4; // pixels from the end that count as the end

export class Place {
  /** Whether the list follows its end. */
  isAtEnd = true;

  #list;
  #rows;
  #changed;
  #top = 0; // the last known scroll position
  #rest = 0; // the part of a pixel by which the position is wrong: parts would add up

  /** `rows` is in `list`, which scrolls. `changed` is called when the reader has scrolled. */
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

  /** Scrolls to the end, if the list follows it. */
  settle() {
    if (this.isAtEnd) {
      this.#list.scrollTop = this.#list.scrollHeight;
      this.#top = this.#list.scrollTop;
    }
  }

  /** The reader has changed the height of a row. The list does not follow its end if that moved away. */
  look() {
    this.isAtEnd = this.#gap() < NEAR;
    this.#changed();
  }

  /** Those of `rows` that are not in sight. */
  unseen(rows) {
    const list = this.#list.getBoundingClientRect();
    return rows.filter((row) => {
      const { top, bottom } = row.getBoundingClientRect();
      return row.hidden || bottom <= list.top || top >= list.bottom;
    });
  }

  /** Calls `remove`, which removes rows out of sight, and keeps the rows in sight in their place. */
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

  /** The list is also farther from its end when it has grown: only scrolling up leaves the end. */
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
