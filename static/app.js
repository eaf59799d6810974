// The page: one panel for each lane. What a lane does is in lanes/; this file only shows it.

import { LongPoll } from '/lanes/long-poll.js';
import { ShortPoll } from '/lanes/short-poll.js';
import { Sse } from '/lanes/sse.js';
import { Stream } from '/lanes/stream.js';
import { WebSocketLane } from '/lanes/websocket.js';

const LOG_ENTRIES = 500;

const sender = document.querySelector('#sender');
sender.value = `guest-${Math.floor(1000 + Math.random() * 9000)}`;

for (const Lane of [ShortPoll, LongPoll, Stream, Sse, WebSocketLane]) {
  document.querySelector('#panels').append(panel(Lane));
}

function panel(Lane) {
  const section = document.querySelector('#panel').content.firstElementChild.cloneNode(true);
  const part = (name) => section.querySelector(`[data-part=${name}]`);
  const button = (name) => section.querySelector(`[data-action=${name}]`);
  const lane = new Lane();

  section.dataset.lane = Lane.lane;
  part('title').textContent = Lane.title;
  part('how').textContent = Lane.how;
  part('id').textContent = lane.id;

  lane.addEventListener('state', ({ detail }) => {
    const [word] = detail.split(' ');
    section.dataset.state = word;
    part('state').textContent = detail;
    button('start').disabled = word !== 'stopped';
    button('stop').disabled = word === 'stopped';
  });
  lane.addEventListener('message', ({ detail: { id, sender, text } }) => {
    const line = entry(part('log'), 'message', text, sender);
    line.dataset.id = id;
  });
  lane.addEventListener('notice', ({ detail }) => {
    entry(part('log'), 'notice', detail);
    part('notice').textContent = detail; // here too: what follows can push it out of the log
    part('notice').hidden = false;
  });
  lane.addEventListener('problem', ({ detail }) => entry(part('log'), 'problem', detail));

  button('start').addEventListener('click', () => {
    part('notice').hidden = true;
    lane.start();
  });
  button('stop').addEventListener('click', () => lane.stop());
  section.querySelector('form').addEventListener('submit', async (event) => {
    event.preventDefault();
    const { text } = event.target.elements;
    const sent = text.value;
    text.value = '';
    try {
      await lane.send(sender.value.trim() || 'anonymous', sent);
    } catch (error) {
      text.value ||= sent; // not lost, unless something else has been typed meanwhile
      entry(part('log'), 'problem', `Not sent: ${error.message}`);
    }
  });
  addEventListener('pagehide', () => lane.stop());
  return section;
}

/** Appends a line to a log. Everything goes in as text: what a stranger typed is never markup. */
function entry(log, kind, text, from) {
  const line = document.createElement('li');
  line.dataset.kind = kind;

  const time = document.createElement('time');
  const now = new Date();
  time.dateTime = now.toISOString();
  time.textContent = `${now.toTimeString().slice(0, 8)}.${String(now.getMilliseconds()).padStart(3, '0')}`;
  line.append(time, ' ');

  if (from !== undefined) {
    const name = document.createElement('b');
    name.textContent = from;
    line.append(name, ' ');
  }
  const body = document.createElement('span');
  body.textContent = text;
  line.append(body);

  log.append(line);
  while (log.childElementCount > LOG_ENTRIES) {
    log.firstElementChild.remove();
  }
  return line;
}
