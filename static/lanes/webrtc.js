// WebRTC: from tab to tab, over data channels. The server only introduces the peers to each other: it
// relays offer, answer and candidates. What they then say does not pass through it, and goes on when it is
// gone. There is a link to each other peer in the room (link.js), and no server to ask for what was missed
// (peer-log.js).

import { Lane } from '/lanes/lane.js';
import { Link } from '/lanes/link.js';
import { PeerLog, parsed } from '/lanes/peer-log.js';
import { uuid } from '/lanes/uuid.js';
import { Silence, backoff, sleep } from '/lanes/waiting.js';
import { socketUrl } from '/lanes/websocket.js';

const MOST_LINKS = 32; // a room has 16 peers, but a peer can offer as often as it likes
const LARGEST = 255 * 1024; // bytes of a message: a little less than what every browser takes

export class WebRtc extends Lane {
  static lane = 'webrtc';
  static title = 'WebRTC data channel';
  static how = '/api/signal';
  static about = 'From browser to browser; the server only introduces them. Start it in a second tab, too.';

  id = undefined;
  #log = new PeerLog();
  #links = []; // oldest first
  #present = new Set(); // the peers that the server says are in the room
  #socket = undefined; // to the signalling server
  #signal = undefined; // aborts when that is lost
  #signalling = ['stopped', 'stopped']; // its state

  async join() {} // those who were here send what a newcomer has missed

  connect(signal) {
    this.#signal = signal;
    return new Promise((resolve, reject) => {
      this.wire('request', 'GET /api/signal');
      const socket = new WebSocket(socketUrl(this.url('/api/signal', { room: this.room })));
      this.#socket = socket;
      const silence = new Silence(Lane.ANSWER, reject);
      socket.addEventListener('message', ({ data }) => {
        silence.end(); // it may be silent from now on, until somebody comes
        this.#introduce(JSON.parse(data)).catch(({ message }) => this.report('problem', message));
      });
      socket.addEventListener('close', ({ code, reason }) => {
        reject(new Error(`signalling closed with ${code}${reason && `: ${reason}`}`));
      });
      signal.addEventListener('abort', () => {
        silence.end();
        socket.close(1000);
        this.#present.clear();
        this.#drop(({ log }) => !log); // open channels do not need the server any more
        reject(signal.reason);
      });
    });
  }

  stop() {
    super.stop();
    this.#drop(() => true);
  }

  /** A message from the server. The newcomer offers, to everyone who is there: so never do two at once. */
  async #introduce({ type, from, peer_id, link: id, ...message }) {
    const link = this.#links.find((one) => one.peer === from && one.id === id);
    if (type === 'welcome') {
      this.identify(peer_id);
      this.opened('holding', 'waiting for a peer');
      this.#present = new Set(message.peers);
      await Promise.all(message.peers.map((peer) => this.#link(peer).offer()));
    } else if (type === 'joined') {
      this.#present.add(peer_id);
    } else if (type === 'left') {
      this.#present.delete(peer_id);
      this.#drop(({ peer, log }) => peer === peer_id && !log);
    } else if (type === 'offer') {
      if (this.#links.length >= MOST_LINKS) {
        throw new Error('there are too many peers');
      }
      await this.#link(from, { id }).answer(message.sdp);
    } else if (type === 'answer') {
      await link?.answered(message.sdp);
    } else if (type === 'candidate') {
      await link?.addCandidate(message.candidate);
    } else if (type === 'error') {
      this.report('problem', message.error);
    }
  }

  #tell(message) {
    if (this.#socket.readyState === WebSocket.OPEN) {
      this.#socket.send(JSON.stringify(message));
    }
  }

  #link(peer, options) {
    this.#drop((old) => old.peer === peer && !old.log);
    const link = new Link(peer, (message) => this.#tell(message), options);
    this.#links.push(link);
    link.addEventListener('open', () => this.#say(link, this.#log.hello()));
    link.addEventListener('text', ({ detail }) => this.#hear(link, detail));
    link.addEventListener('lost', ({ detail }) => this.#replace(link, detail));
    return link;
  }

  #say(link, message) {
    const text = JSON.stringify(message);
    if (link.say(text)) {
      this.wire('sent', text);
    }
  }

  #hear(link, text) {
    this.wire('received', text);
    let value;
    try {
      value = parsed(text);
    } catch ({ message }) {
      return this.report('problem', message);
    }
    if (value.type === 'hello') {
      this.#meet(link, value);
    } else if (value.type === 'notice') {
      this.missing('Messages are missing: the other tab no longer had everything since the last one.');
    } else if (value.log === link.log && this.#log.take(value)) {
      const { id, sender, text, timestamp } = value;
      this.receive({ id, sender, text, timestamp, room: this.room });
    }
  }

  /**
   * The other side is ready. A link that it had before, under whichever peer_id, makes way for this one; but not one to
   * a peer that is still there: it may be another's log that is claimed.
   */
  #meet(link, hello) {
    if (link.log) {
      return this.report('problem', 'a peer introduced itself twice');
    }
    this.#drop((old) => old !== link && old.log === hello.log
      && (old.peer === link.peer || !this.#present.has(old.peer)));
    if (this.#log.knows(hello.log)) {
      this.wire('reconnection', 'a data channel is open again');
    }
    link.meet(hello.log);
    this.show(...this.#signalling);
    for (const message of this.#log.missing(hello)) {
      this.#say(link, message);
    }
  }

  /** A link was lost. Who offered it offers another, if the peer is still there. */
  async #replace(link, why) {
    this.report('problem', why);
    this.#drop((lost) => lost === link);
    const signal = this.#signal;
    const failures = link.log ? 0 : link.failures + 1;
    await sleep(backoff(failures), signal);
    if (link.offered && !signal.aborted && this.#present.has(link.peer)) {
      await this.#link(link.peer, { failures }).offer();
    }
  }

  #drop(which) {
    const dropped = this.#links.filter(which);
    this.#links = this.#links.filter((link) => !dropped.includes(link));
    dropped.forEach((link) => link.close());
    this.show(...this.#signalling);
  }

  /** Sends to all who are there. Those who come later get it too, as long as it is kept. */
  async send(sender, text, id = uuid()) {
    if (this.state === 'stopped') {
      throw new Error('the lane is stopped');
    }
    const message = { id, sender, text, timestamp: Date.now() / 1000, room: this.room };
    if (new TextEncoder().encode(JSON.stringify(message)).length > LARGEST) {
      throw new Error('too long for a message over a data channel');
    }
    const numbered = this.#log.append(message);
    for (const link of this.#links.filter(({ log }) => log)) {
      this.#say(link, numbered);
    }
    this.receive({ ...message, own: true }); // shown here as well, but it did not come over any wire
    return id;
  }

  /** Open is what has a channel, whatever becomes of the server. */
  show(state, text = state) {
    this.#signalling = [state, text];
    const open = this.#links.filter(({ log }) => log).length;
    if (open > 0 && state !== 'stopped') {
      super.show('open', open === 1 ? 'open to 1 peer' : `open to ${open} peers`);
    } else {
      super.show(state, text);
    }
  }
}
