// Makes elements, and keeps a scroller at its end.

/** `make('button', { class: 'quiet', onclick: act }, 'Stop')` makes an element. A text is never markup. */
export function make(name, attributes = {}, ...children) {
  const element = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (key.startsWith('on')) {
      element.addEventListener(key.slice(2), value);
    } else if (value === true) {
      element.setAttribute(key, '');
    } else if (value !== false && value !== undefined) {
      element.setAttribute(key, value);
    }
  }
  element.append(...children);
  return element;
}

const NEAR = 8; // pixels from the end that count as the end

/**
 * Keeps a scroller at its end while the reader is there, also when its height changes. Returns a function to call after
 * something was added.
 */
export function followEnd(scroller) {
  let isAtEnd = true;
  let top = 0; // the last known position
  const toEnd = () => {
    if (isAtEnd) {
      scroller.scrollTop = scroller.scrollHeight;
      top = scroller.scrollTop;
    }
  };
  // The end is also farther away when the scroller has become lower: only scrolling up leaves it.
  scroller.addEventListener('scroll', () => {
    const isNear = scroller.scrollHeight - scroller.scrollTop - scroller.clientHeight < NEAR;
    isAtEnd = isNear || (isAtEnd && scroller.scrollTop >= top);
    top = scroller.scrollTop;
  });
  new ResizeObserver(toEnd).observe(scroller);
  return toEnd;
}
