// The page: the lanes of a room or of mailboxes, and what starts them, stops them and sends. A panel shows one lane
// (page/panel.js). Seen through the tap, the page also has the tools of the dock (page/tools.js); seen on the server,
// it has a button that leads to the tap. `?room=tea`, `?mode=isolated`, `?lanes=sse,websocket` and `?start` or
// `?start=sse` say how the page begins.

import { make } from './dom.js';
import { Auto } from './lanes/auto.js';
import { LongPoll } from './lanes/long-poll.js';
import { MailboxPoll } from './lanes/mailbox-poll.js';
import { MailboxSse } from './lanes/mailbox-sse.js';
import { MailboxWebSocket } from './lanes/mailbox-websocket.js';
import { ShortPoll } from './lanes/short-poll.js';
import { Sse } from './lanes/sse.js';
import { Stream } from './lanes/stream.js';
import { urlOf } from './lanes/urls.js';
import { WebRtc } from './lanes/webrtc.js';
import { WebSocketLane } from './lanes/websocket.js';
import { isSessionOver, request, whole } from './overwire.js';
import { Connections } from './page/connections.js';
import { Deliveries } from './page/deliveries.js';
import { Frames } from './page/frames.js';
import { Gauge } from './page/gauge.js';
import { keep, keepRunning, recall, recallRunning } from './page/kept.js';
import { Marks } from './page/marks.js';
import { Outgoing } from './page/outgoing.js';
import { Panel } from './page/panel.js';
import { People } from './page/people.js';
import { Session } from './page/session.js';
import { atTap, isTap } from './page/tap-address.js';
import { Title } from './page/title.js';
import { Tools } from './page/tools.js';
import { Tap } from './tap.js';

const LANES = {
  room: [Auto, ShortPoll, LongPoll, Stream, Sse, WebSocketLane, WebRtc],
  isolated: [MailboxPoll, MailboxSse, MailboxWebSocket],
};
const STATS_EVERY = 5_000; // milliseconds
const FIRST_ANSWERS = 1_000; // milliseconds that lanes wait for the first answers
const SETTLED = 500; // milliseconds after which a started lane is usually open

const element = (id) => document.getElementById(id);
const action = (name) => document.querySelector(`[data-action="${name}"]`);

const parameters = new URLSearchParams(location.search);
const wanted = parameters.get('lanes')?.split(',');
let room = parameters.get('room') || 'general';
let changed = undefined; // the timer since a lane was started or stopped
let mode = parameters.get('mode') === 'isolated' ? 'isolated' : 'room';
let tools = undefined; // until it is known that the page is seen through the tap
let tapPort = undefined; // until the server has answered; null if there is no tap
let met = undefined; // resolves when the server has answered, or has not in time

const tap = new Tap();
const session = new Session();
const ran = new Set(); // labels of lanes that ran when the session ended
const deliveries = new Deliveries();
const marks = new Marks(element('panels'));
const frames = new Frames();
const tabTitle = new Title(() => panels);
const connections = new Connections();
const held = new Map(); // panel -> the function that gives back its connection
const gauge = new Gauge(connections, (panel) => panel.start());
const outgoing = new Outgoing({ connections, deliveries, to: () => ({ mode, room, panels, sender: sender() }) });
new People({ room: () => room, connections, own: () => panels.map(({ lane }) => lane?.id) });
const publish = (text) => noticing(outgoing.publish(text));
const send = (panel, text) => noticing(outgoing.send(panel, text));

const sets = Object.fromEntries(Object.entries(LANES).map(([name, classes]) => [name, panelsOf(classes, name)]));
let panels = sets[mode];

function panelsOf(classes, name) {
  const chosen = classes.filter(({ lane }) => wanted?.includes(lane) ?? true);
  const act = {
    start, send, explain, refused, state: noteState, running: noteRunning,
    frames: (panel) => frames.open(panel),
    news: (message) => tabTitle.news(message),
    bytes: (label) => tools.showBytes(label),
    message: (label, id) => tools?.showMessage(label, id),
  };
  return (chosen.length > 0 ? chosen : classes).map((Lane) => (
    new Panel(Lane, { isolated: name === 'isolated', marks, deliveries, act })));
}

/** Makes new lanes for the room and the mode. Lanes that ran in the same mode start again. */
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
    panel.renew({ room, ready });
    tapLane(panel);
  }
  if (same) {
    running.forEach(start);
  } else {
    ran.clear();
    running.length > 0 && say(`Stopped: ${titlesOf(running)}. Room and Isolated have lanes of their own.`, 'note');
    tools?.changeMode(mode);
  }
  leadToTap();
}

/** A lane connects when its bytes are shown, or when it is known that they are not. */
async function ready() {
  await met;
  await tap.ready();
}

function tapLane({ label, lane }) {
  if (tools) {
    lane.tap = tap.of(label);
    tools.watch(label, lane);
  }
}

/** The first answer of the server says whether this page is seen through the tap. */
function meet({ tap_port: port, chaos }) {
  if (tapPort === undefined && isTap(port)) {
    const lanes = sets.room.map(({ label, title }) => ({ label, title }));
    const note = (label, text) => panels.find((panel) => panel.label === label)?.note(text);
    tools = new Tools({ tap, lanes, deliveries, publish, note, marks });
    document.body.dataset.tap = 'here';
    panels.forEach(tapLane);
    tap.start();
  }
  tapPort = port ?? null;
  chaos === undefined || tools?.allowForget(chaos);
  leadToTap();
}

/** On the server, a button leads to the same page at the tap. */
function leadToTap() {
  const link = element('see-bytes');
  link.hidden = tools !== undefined || !tapPort || location.protocol !== 'http:'; // which is all that the tap speaks
  if (!link.hidden) {
    const running = panels.filter((panel) => panel.running).map(({ label }) => label);
    link.href = atTap(tapPort, { all: panels, running });
  }
}

// The session.

/** A refused request may show that the session is over. */
async function noticing(promise) {
  try {
    return await promise;
  } catch (error) {
    isSessionOver(error) && session.ask();
    throw error;
  }
}

/** The server has refused a lane. If the session is over, then for all lanes. */
function refused({ label }, error) {
  if (isSessionOver(error)) {
    ran.add(label);
    session.ask();
  }
}

function endSession() {
  met = undefined;
  panels.filter(({ running }) => running).forEach(({ label, lane }) => {
    ran.add(label);
    lane.stop('session over');
  });
  allPanels().forEach((panel) => panel.allow(false));
}

/** The lanes that ran start again, after the last message that they have. */
function beginSession() {
  meet(session.identity);
  allPanels().forEach((panel) => panel.allow(true));
  met ??= showStats();
  const permitted = session.roomFor(room);
  if (!parameters.has('room') && permitted !== room) {
    arrange(mode, permitted);
  }
  startAll([...ran]);
  ran.clear();
}

const allPanels = () => Object.values(sets).flat();

function keepInUrl() {
  const url = new URL(location);
  room === 'general' ? url.searchParams.delete('room') : url.searchParams.set('room', room);
  mode === 'room' ? url.searchParams.delete('mode') : url.searchParams.set('mode', mode);
  history.replaceState(null, '', url);
  leadToTap();
}

/** Whether its first request takes one of the six connections. */
const needsConnection = ({ label }) => label !== 'webrtc' && !(label === 'websocket' && mode === 'isolated');

/**
 * Starts a lane, unless its first request would be the seventh connection. While six are not held, the lane starts
 * before this returns: so lanes that start together are counted one after the other.
 */
async function start(panel) {
  const { lane } = panel;
  if (needsConnection(panel) && connections.full && await connections.areFull()) {
    gauge.refuse(panel);
  } else if (panel.lane === lane && panels.includes(panel)) { // room and mode have not changed
    panel.start();
  }
}

/** A request that waits in the browser looks as if the server did not answer. */
function explain(panel, problem) {
  return needsConnection(panel) && connections.full && /^nothing came/.test(problem)
    ? 'The request waits in the browser: all six connections are held.' : problem;
}

/** Counts the connection that a lane holds, or no longer. */
function noteState(panel) {
  if (panel.lane.holds && !held.has(panel)) {
    held.set(panel, connections.hold());
  } else if (!panel.lane.holds) {
    held.get(panel)?.();
    held.delete(panel);
  }
  tabTitle.show();
}

function noteRunning() {
  document.body.dataset.running = panels.filter(({ running }) => running).length;
  leadToTap();
  clearTimeout(changed);
  changed = setTimeout(showStats, SETTLED); // an open lane counts among the people present
}

/** First the lanes that need a connection for a moment only: a lane that holds one would leave them none. */
function startAll(labels = panels.map(({ label }) => label)) {
  [...panels].sort((a, b) => a.keeps - b.keeps)
    .filter((panel) => labels.includes(panel.label) && !panel.running).forEach(start);
}

const sender = () => session.identity?.name ?? (element('sender').value.trim() || 'anonymous');

/** Shows the people present and the rooms. Skips requests that nobody would see or that would have to wait. */
async function showStats() {
  const isFirst = tapPort === undefined;
  if (!isFirst && connections.full) {
    return showPresent('–', 'Not known: all six connections are held, and the question would wait.');
  }
  if (!session.may('admin')) {
    return showPresent('–', 'Only an operator sees who reads this room.');
  }
  if (!isFirst && (document.hidden || mode !== 'room')) {
    return;
  }
  try {
    const asked = Date.now();
    const stats = JSON.parse(await whole(request(urlOf('/api/stats'), { limit: STATS_EVERY })));
    meet(stats);
    deliveries.compareClocks(asked, stats.timestamp * 1000, Date.now());
    showPresent(Object.hasOwn(stats.present, room) ? stats.present[room] : 0); // a room can be named `constructor`
    element('rooms').replaceChildren(...stats.rooms.map((name) => make('option', { value: name })));
  } catch (error) {
    showPresent('–', 'Not known: the server does not answer.');
    isSessionOver(error) && session.ask();
  }
}

function showPresent(number, title = 'Who reads this room now, on any transport but WebRTC, in any browser') {
  element('present').value = number;
  element('present').parentElement.title = title;
}

const titlesOf = (all) => all.map(({ title }) => title).join(', ');

/** Says something beside the composer. `kind` is `problem` or `note`. */
function say(text, kind = 'problem') {
  element('composer-says').value = text;
  element('composer-says').dataset.kind = kind;
}

element('sender').value = recall('name') ?? `guest-${Math.floor(1000 + Math.random() * 9000)}`;
element('sender').addEventListener('change', ({ target }) => keep('name', target.value));
element('composer').addEventListener('submit', async (event) => {
  event.preventDefault();
  const field = element('message');
  const text = field.value;
  field.value = '';
  say('');
  try {
    await publish(text);
    panels.some(({ running }) => running) || say(`Sent to ${room}. No lane is running: start one to see it.`, 'note');
  } catch (error) {
    field.value ||= text; // unless something else has been typed meanwhile
    say(`Sending failed: ${error.message}`);
  }
});
action('start-all').addEventListener('click', () => startAll());
action('stop-all').addEventListener('click', () => panels.forEach((panel) => panel.lane.stop()));
element('room').addEventListener('change', () => {
  arrange(mode, element('room').value.trim() || 'general');
  keepInUrl();
  showStats();
});
for (const choice of document.querySelectorAll('[name=mode]')) {
  choice.addEventListener('change', () => {
    arrange(choice.value, room);
    keepInUrl();
    showStats();
  });
}
setInterval(() => {
  connections.refresh();
  session.identity || session.isOver || session.ask(); // the server was away
  showStats();
}, STATS_EVERY);

addEventListener('pagehide', () => keepRunning(panels.filter(({ running }) => running).map(({ label }) => label)));
session.addEventListener('begun', beginSession);
session.addEventListener('over', endSession);
const answers = Promise.all([session.ask(), showStats()]);
met = Promise.race([answers, new Promise((resolve) => { setTimeout(resolve, FIRST_ANSWERS); })]);
arrange(mode, room);
document.querySelectorAll('.bar :disabled, .composer :disabled').forEach((control) => { control.disabled = false; });
await Promise.all([met, connections.refresh()]);
const all = panels.map(({ label }) => label);
const asked = parameters.get('start')?.split(',') ?? recallRunning();
const chosen = parameters.get('start') === '' ? all : all.filter((label) => asked.includes(label));
session.isOver ? chosen.forEach((label) => ran.add(label)) : startAll(chosen);
