// What the browser keeps of the reader's choices over a reload. Without it, because the data of the site are blocked, a
// choice lasts as long as the page.

const PREFIX = 'overwire-';

const RUNNING = `${PREFIX}running`;

/** The kept value of a choice, or undefined. */
export function recall(name) {
  try {
    return localStorage.getItem(PREFIX + name) ?? undefined;
  } catch {
    return undefined;
  }
}

export function keep(name, value) {
  try {
    localStorage.setItem(PREFIX + name, value);
  } catch { // blocked, or full
  }
}

/** Keeps the labels of the lanes that run, for this tab: a browser that comes back may have to load the page again. */
export function keepRunning(labels) {
  try {
    sessionStorage.setItem(RUNNING, labels.join());
  } catch { // blocked
  }
}

/** The labels that were kept, if the reader has come back by the history of the browser. */
export function recallRunning() {
  try {
    const isBack = performance.getEntriesByType('navigation')[0]?.type === 'back_forward';
    return isBack ? sessionStorage.getItem(RUNNING)?.split(',') ?? [] : [];
  } catch {
    return [];
  }
}
