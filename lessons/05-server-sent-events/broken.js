// A reader of many examples. It runs in the page of lesson 05, and in Node.

// ANCHOR: broken
// BUG: the browser comes back by itself, and says where it was. A new EventSource knows nothing of it.
export function runBroken(url, show) {
  const source = new EventSource(url);
  source.addEventListener('message', ({ data }) => show(`broken: ${data}`));
  source.addEventListener('error', () => {
    source.close();
    setTimeout(runBroken, 1000, url, show);
  });
}
// ANCHOR_END: broken
