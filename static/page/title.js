// The title of the tab while the page is not seen: the number of messages since then, and the number of open lanes,
// unless all that run are open. When the page is seen, the tab has its own title again.

const MOST = 99; // messages that are counted

export class Title {
  #panels;
  #own = document.title;
  #news = new Set(); // ids of messages: each comes in several lanes

  /** `panels` returns the panels of the page. */
  constructor(panels) {
    this.#panels = panels;
    document.addEventListener('visibilitychange', () => {
      this.#news.clear();
      document.hidden ? this.show() : document.title = this.#own;
    });
  }

  /** A message has come that is not history. */
  news({ id }) {
    if (document.hidden && this.#news.size <= MOST) {
      this.#news.add(id);
      this.show();
    }
  }

  /** Shows what is so now, if the page is not seen. */
  show() {
    if (!document.hidden) {
      return;
    }
    const { size } = this.#news;
    const running = this.#panels().filter((panel) => panel.running);
    const open = running.filter(({ lane }) => ['open', 'holding'].includes(lane.state));
    document.title = [
      size > 0 && `(${size > MOST ? `${MOST}+` : size})`,
      open.length < running.length && `${open.length} of ${running.length} open:`,
      this.#own,
    ].filter(Boolean).join(' ');
  }
}
