// WebRTC: from tab to tab, over data channels. The server only introduces the peers: it relays offer, answer and
// candidates. Their messages do not pass through the server, and continue when it is gone. The lane has a link to each
// other peer in the room (link.js), and a log for peers that have missed messages (peer-log.js).

import { Silence, backoff, sleep, uuid } from '../overwire.js';
import { Lane } from './lane.js';
import { Link } from './link.js';
import { PeerLog, parsed } from './peer-log.js';

const MOST_LINKS = 32; // a room has 16 peers, but a peer can offer as often as it likes
const LARGEST = 255 * 1024; // bytes of a message: a little less than every browser takes

export class WebRtc extends Lane {
  static lane = 'webrtc';
  static title = 'WebRTC data channel';
  static how = '/api/signal';
  static about = 'From browser to browser; the server only introduces them. Start it in a second tab, too.';

  id = undefined;
  #log = new PeerLog();
  #links = []; // oldest first
  #present = new Set(); // the peers in the room, as the server says
  #socket = undefined; // to the signalling server
  #signal = undefined; // aborts when the socket is lost

  /** There is no history to ask for: the peers send what a newcomer has missed. */
  async join(signal, isDoubtful) {
    isDoubtful && await this.askWho(signal);
  }

  connect(signal) {
    if (globalThis.RTCPeerConnection === undefined) {
      this.report('problem', 'This browser has no WebRTC.');
      this.stop();
      return undefined;
    }
    this.#signal = signal;
    return new Promise((resolve, reject) => {
      this.wire('request', 'GET /api/signal');
      const socket = new WebSocket(this.socketUrl('/api/signal', { room: this.room }));
      this.#socket = socket;
      const silence = new Silence(this.constructor.ANSWER, reject);
      socket.addEventListener('message', ({ data }) => {
        silence.end(); // from now on it is silent until somebody comes
        this.#introduce(JSON.parse(data)).catch(({ message }) => this.report('problem', message));
      });
      socket.addEventListener('close', ({ code, reason }) => {
        reject(Object.assign(new Error(`signalling closed with ${code}${reason && `: ${reason}`}`), { code }));
      });
      signal.addEventListener('abort', () => {
        silence.end();
        socket.close(1000);
        this.#present.clear();
        this.#drop(({ log }) => !log); // open channels no longer need the server
        reject(signal.reason);
      });
    });
  }

  stopped() {
    this.#drop(() => true);
  }

  /** The lane is open while it has a channel, whatever the state of the signalling. */
  describe(state, text) {
    const open = this.#links.filter(({ log }) => log).length;
    return open === 0 || state === 'stopped' ? { state, text }
      : { state: 'open', text: open === 1 ? 'open to 1 peer' : `open to ${open} peers` };
  }

  /** A message from the server. A newcomer offers to every peer in the room, so two peers never offer at once. */
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
    const limit = this.constructor.SILENCE;
    const link = new Link(peer, (message) => this.#tell(message), { limit, ...options });
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

  #hear(link, data) {
    this.wire('received', data);
    let value;
    try {
      value = parsed(data);
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
   * The peer is ready. This link replaces an older link with the same log, under whichever `peer_id`. A link to a peer
   * that is still in the room is not replaced: this peer may claim the log of another.
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
    this.show();
    for (const message of this.#log.missing(hello)) {
      this.#say(link, message);
    }
  }

  /** A link was lost. The side that offered it offers another, if the peer is still in the room. */
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
    this.show();
  }

  /** Sends to all peers. A later peer gets the message too, while it is kept. */
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
}
