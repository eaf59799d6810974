// The tool "Compare": the cost of each lane, live, and two experiments.

import { CompareTable } from './compare-table.js';
import { BURST, burst, silence } from './experiments.js';
import { Figures } from './figures.js';
import { make } from '../dom.js';
import { KINDS } from './meter.js';
import { count, markdown, milliseconds, percentile } from './numbers.js';

const REFRESH = 500; // milliseconds

const SILENCE_COLUMNS = [
  ['Requests', ({ requests }) => count(requests)],
  ['Bytes up', ({ up }) => count(up.total)],
  ['Bytes down', ({ down }) => count(down.total)],
  ...KINDS.map((kind) => [`of which ${kind}`, ({ up, down }) => count(up[kind] + down[kind])]),
  ['Empty answers', ({ empty }) => count(empty)],
  ['Reconnections', ({ reconnections }) => count(reconnections)],
];

const BURST_COLUMNS = [
  ['Arrived', ({ arrived, isSender }) => isSender ? '–' : count(arrived)],
  ['Delay p50', ({ delays }) => milliseconds(percentile(delays, 0.5))],
  ['Delay p95', ({ delays }) => milliseconds(percentile(delays, 0.95))],
  ['Last after', ({ last }) => milliseconds(last)],
  ['Requests', ({ requests }) => count(requests)],
  ['Bytes up', ({ up }) => count(up.total)],
  ['Bytes down', ({ down }) => count(down.total)],
  ['Bytes per message', ({ label, up, down, arrived }) => ( // the bytes of a data channel are not known
    arrived === 0 || label === 'webrtc' ? '–' : count(Math.round((up.total + down.total) / arrived)))],
];

const ABOUT = [
  'The bytes are those of HTTP and WebSocket, as they pass the tap; those of TCP, IP and TLS are not included. Not '
    + 'counted: the parameter tap in the URLs, which marks the requests for the tap, and messages sent through no lane.',
  'A bar shows the shares of its own row. Bytes per second: up and down together, on one logarithmic scale for all '
    + 'lanes, so each line across is ten times the one below it. Delays: of the last 1,000 messages.',
  'WebRTC: the bytes are those of the signalling. The bytes of its data channel pass neither the server nor the tap, so '
    + 'they cannot be counted here.',
];

export function mountCompare(root, { tap, lanes, deliveries, publish }) {
  const figures = new Figures(lanes.map(({ label }) => label), tap, deliveries);
  const view = new CompareView(root, lanes, figures, tap);
  view.onsilence = (signal, tick) => silence(figures, signal, (left) => tick(`${left} s of silence left`));
  view.onburst = (signal, tick) => burst(figures, deliveries, publish, signal, tick);
  return { watch: (label, lane) => figures.watch(label, lane), begin: (why) => view.begin(why) };
}

class CompareView {
  #table;
  #figures;
  #titles;
  #tap;
  #running = undefined; // the AbortController of an experiment
  #results = new Map();
  #status = make('p', { class: 'compare-status', role: 'status' },
    'A minute of silence shows the cost of waiting, a burst the cost of talking.');
  #left = make('p', { class: 'compare-left-out', hidden: true });
  #buttons = [
    button('silence', 'A minute of silence', () => this.#try('silence')),
    button('burst', `A burst of ${BURST}`, () => this.#try('burst')),
    button('copy', 'Copy table', () => this.#copy()),
    button('reset', 'Reset', () => this.#reset()),
  ];
  #stop = button('stop', 'Stop', () => this.#running.abort());

  constructor(root, lanes, figures, tap) {
    this.#figures = figures;
    this.#tap = tap;
    this.#titles = new Map(lanes.map(({ label, title }) => [label, title]));
    this.#table = new CompareTable(lanes, figures);
    this.#stop.disabled = true;
    this.results = make('div', { class: 'compare-results' });
    root.classList.add('compare');
    root.append(
      make('div', { class: 'compare-buttons' }, ...this.#buttons, this.#stop, this.#status),
      scroller('What each lane costs', this.#table.element), this.#left, this.results,
      make('div', { class: 'compare-about' }, ...ABOUT.map((text) => make('p', {}, text))));
    setInterval(() => root.checkVisibility() && !document.hidden && this.#update(), REFRESH);
    this.#update();
  }

  #update() {
    this.#table.update();
    const { bytes, events } = this.#figures.leftOut;
    this.#left.hidden = bytes === 0 && this.#tap.open !== false;
    this.#left.textContent = bytes === 0 ? 'The tap is closed: bytes are not counted until it is open again.'
      : `At least: ${count(bytes)} bytes in ${count(events)} events are not counted, because this page was too slow.`;
  }

  async #try(what) {
    this.#running = new AbortController();
    const { signal } = this.#running;
    this.#setRunning(true);
    this.#stop.focus();
    const result = await this[`on${what}`](signal, (text) => this.#say(`${text}.`));
    const hadFocus = document.activeElement === this.#stop;
    this.#setRunning(false);
    this.#running = undefined;
    if (hadFocus) {
      this.#buttons.find((one) => one.dataset.action === what).focus();
    }
    if (!result) {
      this.#say('Stopped.');
      return;
    }
    this.#say('');
    this.#show(what, what === 'silence' ? silenceTable(result) : burstTable(result));
  }

  #setRunning(isRunning) {
    this.#buttons.filter(({ dataset }) => dataset.action !== 'copy').forEach((one) => { one.disabled = isRunning; });
    this.#stop.disabled = !isRunning;
  }

  #show(what, { title, notes, columns, lanes }) {
    const rows = lanes.map((lane) => [this.#titles.get(lane.label), ...columns.map(([, value]) => value(lane))]);
    const table = make('table', { class: 'compare-table' },
      make('thead', {}, make('tr', {}, make('th', { scope: 'col' }, 'Lane'),
        ...columns.map(([name]) => make('th', { scope: 'col', class: 'number' }, name)))),
      make('tbody', {}, ...rows.map(([name, ...cells], at) => make('tr', { 'data-row': lanes[at].label },
        make('th', { scope: 'row' }, name), ...cells.map((cell) => make('td', { class: 'number' }, cell))))));
    const section = make('section', { 'data-result': what }, make('h3', {}, title),
      ...notes.map((text) => make('p', {}, text)), scroller(title, table));
    const titled = ['Lane', ...columns.map(([name]) => name)].map((name, at) => ({ title: name, isNumber: at > 0 }));
    this.#results.get(what)?.section.remove();
    this.#results.set(what, { section, text: markdown(`${title}: ${notes.join(' ')}`, titled, rows) });
    this.results.prepend(section);
    section.scrollIntoView({ block: 'nearest' });
  }

  async #copy() {
    const text = [this.#table.markdown(), ...[...this.#results.values()].map((result) => result.text)].join('\n\n');
    try {
      await navigator.clipboard.writeText(text);
      this.#say('Copied as Markdown.');
    } catch {
      this.#say('The browser does not allow copying here.'); // a page of http at another address than localhost
    }
  }

  /** Forgets what was counted: other lanes have the same labels now. */
  begin(why) {
    this.#running?.abort();
    this.#reset();
    this.#say(why);
  }

  #reset() {
    this.#figures.reset();
    this.#results.clear();
    this.results.replaceChildren();
    this.#update();
    this.#say('All counts are 0.');
  }

  #say(text) {
    this.#status.textContent = text;
  }
}

function silenceTable({ lanes, seconds, published, isAtLeast }) {
  const notes = [published === 0 ? 'Nobody published meanwhile.'
    : `Not silent: ${count(published)} ${published === 1 ? 'message' : 'messages'} came meanwhile.`];
  return {
    title: `A minute of silence (${seconds.toFixed(1)} s)`, columns: SILENCE_COLUMNS, lanes,
    notes: withGap(notes, isAtLeast),
  };
}

function burstTable({ lanes, accepted, problem, isAtLeast }) {
  const notes = [`${count(accepted)} of ${BURST} messages were accepted${problem ? `; ${problem}` : ''}.`];
  if (lanes.some(({ isSender }) => isSender)) {
    notes.push('WebRTC sent the messages to its peers: they arrive there, not here.');
  }
  return { title: `A burst of ${BURST}`, columns: BURST_COLUMNS, lanes, notes: withGap(notes, isAtLeast) };
}

function withGap(notes, isAtLeast) {
  return isAtLeast ? [...notes, 'Bytes are at least these: some were not seen.'] : notes;
}

function button(action, title, onclick) {
  return make('button', { type: 'button', 'data-action': action, onclick }, title);
}

/** A wide table scrolls inside this, also with the keyboard. */
function scroller(title, table) {
  return make('div', { class: 'compare-scroller', tabindex: 0, role: 'region', 'aria-label': title }, table);
}
