// The page: which lanes there are, in which room or mode, and who starts, stops and sends. One panel shows one lane
// (panel.js); the dock has the tools that look at them. `?room=tea`, `?mode=isolated`, `?lanes=sse,websocket` and
// `?start` say how it begins.

import { mountChaos } from './chaos/chaos.js';
import { mountCompare } from './compare/compare.js';
import { Connections } from './page/connections.js';
import { Deliveries } from './page/deliveries.js';
import { Dock } from './page/dock.js';
import { make } from './dom.js';
import { Gauge } from './page/gauge.js';
import { LongPoll } from './lanes/long-poll.js';
import { MailboxPoll } from './lanes/mailbox-poll.js';
import { MailboxSse } from './lanes/mailbox-sse.js';
import { MailboxWebSocket } from './lanes/mailbox-websocket.js';
import { ShortPoll } from './lanes/short-poll.js';
import { Sse } from './lanes/sse.js';
import { Stream } from './lanes/stream.js';
import { WebRtc } from './lanes/webrtc.js';
import { WebSocketLane } from './lanes/websocket.js';
import { Marks } from './page/marks.js';
import { Outgoing } from './page/outgoing.js';
import { Panel } from './page/panel.js';
import { Tap } from './tap.js';
import { mountWireView } from './wire/wire-view.js';

const LANES = {
  room: [ShortPoll, LongPoll, Stream, Sse, WebSocketLane, WebRtc],
  isolated: [MailboxPoll, MailboxSse, MailboxWebSocket],
};
const STATS_EVERY = 5_000; // milliseconds
const SETTLED = 500; // milliseconds after which a lane that was started is mostly open

const element = (id) => document.getElementById(id);
const action = (name) => document.querySelector(`[data-action="${name}"]`);

const parameters = new URLSearchParams(location.search);
const wanted = parameters.get('lanes')?.split(',');
let room = parameters.get('room') || 'general';
let changed = undefined; // the timer since a lane was started or stopped
let mode = parameters.get('mode') === 'isolated' ? 'isolated' : 'room';

const tap = new Tap();
const deliveries = new Deliveries();
const marks = new Marks(element('panels'));
const connections = new Connections();
const held = new Map(); // panel -> the function that gives back its connection
const gauge = new Gauge(connections, (panel) => panel.start());
const dock = new Dock();
const outgoing = new Outgoing({ connections, deliveries, to: () => ({ mode, room, panels, sender: sender() }) });
const publish = (text) => outgoing.publish(text);
const send = (panel, text) => outgoing.send(panel, text);

const sets = Object.fromEntries(Object.entries(LANES).map(([name, classes]) => [name, panelsOf(classes, name)]));
let panels = sets[mode];
const lanes = sets.room.map(({ label, title }) => ({ label, title }));
const wireView = mountWireView(element('bytes'), { tap, lanes });
let chaos = undefined; // until the tap says that faults are allowed
const compare = mountCompare(element('compare'), { tap, lanes, deliveries, publish });

function panelsOf(classes, name) {
  const chosen = classes.filter(({ lane }) => wanted?.includes(lane) ?? true);
  const act = { start, send, bytes: showBytes, running: hold };
  return (chosen.length > 0 ? chosen : classes).map((Lane) => (
    new Panel(Lane, { isolated: name === 'isolated', marks, deliveries, act })));
}

/** Makes new lanes for the room and the mode. What ran in the same mode runs on. */
function arrange(nextMode, nextRoom) {
  const running = panels.filter((panel) => panel.running);
  running.forEach((panel) => panel.lane.stop());
  const same = nextMode === mode;
  mode = nextMode;
  room = nextRoom;
  panels = sets[mode];
  document.body.dataset.mode = mode;
  document.querySelector(`[name=mode][value=${mode}]`).checked = true;
  element('room').value = room;
  element('message').placeholder = `Message to ${mode === 'room' ? room : 'the mailbox of each running lane'}`;
  element('panels').dataset.count = panels.length;
  element('panels').replaceChildren(...panels.map((panel) => panel.element));
  for (const panel of panels) {
    const lane = panel.renew({ room, tap: tap.of(panel.label), ready: () => tap.ready() });
    wireView.watch(panel.label, lane);
    compare.watch(panel.label, lane);
    chaos?.watch(panel.label, lane);
  }
  if (same) {
    running.forEach(start);
  }
  return showStats();
}

function keepInUrl() {
  const url = new URL(location);
  room === 'general' ? url.searchParams.delete('room') : url.searchParams.set('room', room);
  mode === 'room' ? url.searchParams.delete('mode') : url.searchParams.set('mode', mode);
  history.replaceState(null, '', url);
}

/**
 * Starts a lane, unless its first request would be the seventh at once. Where six are not held it starts before this
 * returns, so that lanes which are started together are counted one after the other.
 */
async function start(panel) {
  const needsOne = panel.label !== 'webrtc' && !(panel.label === 'websocket' && mode === 'isolated');
  const { lane } = panel;
  if (needsOne && connections.full && await connections.areFull()) {
    gauge.refuse(panel);
  } else if (panel.lane === lane && panels.includes(panel)) { // room and mode are still those
    panel.start();
  }
}

function hold(panel) {
  document.body.dataset.running = panels.filter(({ running }) => running).length;
  if (panel.running && panel.holds) {
    held.set(panel, connections.hold());
  } else {
    held.get(panel)?.();
    held.delete(panel);
  }
  clearTimeout(changed);
  changed = setTimeout(showStats, SETTLED); // it counts among those who are present, once it is open
}

/** First those that need a connection for a moment only: one that is held is taken from them. */
function startAll() {
  [...panels].sort((a, b) => a.holds - b.holds).forEach((panel) => panel.running || start(panel));
}

const sender = () => element('sender').value.trim() || 'anonymous';

function showBytes(label) {
  dock.show('bytes');
  wireView.show(label);
  element('dock').scrollIntoView({ block: 'nearest' });
}

/**
 * Who is there, which rooms there are, and what time it is there. Asked for while somebody sees it, and not when it
 * would have to wait.
 */
async function showStats() {
  if (document.hidden || mode !== 'room' || connections.full) {
    return;
  }
  try {
    const asked = Date.now();
    const response = await fetch('/api/stats', { signal: AbortSignal.timeout(STATS_EVERY) });
    const answered = Date.now();
    const { rooms, present, timestamp } = await response.json();
    deliveries.compareClocks(asked, timestamp * 1000, answered);
    element('present').value = Object.hasOwn(present, room) ? present[room] : 0; // it may be called `constructor`
    element('rooms').replaceChildren(...rooms.map((name) => make('option', { value: name })));
  } catch {
    element('present').value = '–';
  }
}

element('sender').value = `guest-${Math.floor(1000 + Math.random() * 9000)}`;
element('composer').addEventListener('submit', async (event) => {
  event.preventDefault();
  const field = element('message');
  const text = field.value;
  field.value = '';
  element('composer-says').value = '';
  try {
    await publish(text);
  } catch (error) {
    field.value ||= text; // not lost, unless something else has been typed meanwhile
    element('composer-says').value = `Not sent: ${error.message}`;
  }
});
action('start-all').addEventListener('click', startAll);
action('stop-all').addEventListener('click', () => panels.forEach((panel) => panel.lane.stop()));
element('room').addEventListener('change', () => {
  arrange(mode, element('room').value.trim() || 'general');
  keepInUrl();
});
for (const choice of document.querySelectorAll('[name=mode]')) {
  choice.addEventListener('change', () => {
    arrange(choice.value, room);
    keepInUrl();
  });
}
tap.addEventListener('open', ({ detail }) => {
  if (detail.chaos && element('chaos').childElementCount === 0) {
    const note = (label, text) => panels.find((panel) => panel.label === label)?.note(text);
    chaos = mountChaos(element('chaos'), { tap, lanes, note });
    panels.forEach(({ label, lane }) => chaos.watch(label, lane));
  }
  dock.offer('chaos', detail.chaos);
});
setInterval(() => {
  connections.refresh();
  showStats();
}, STATS_EVERY);

const arranged = arrange(mode, room);
tap.start();
await Promise.all([arranged, connections.refresh()]);
if (parameters.has('start')) {
  startAll();
}
