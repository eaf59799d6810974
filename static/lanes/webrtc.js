// WebRTC: from tab to tab, over data channels. The server only introduces the peers to each other: it
// relays offer, answer and candidates. What they then say does not pass through it, and goes on when it is
// gone. There is a channel to each other peer in the room, and no server to ask for what was missed: see
// peer-log.js.

import { Lane } from '/lanes/lane.js';
import { PeerLog, parsed } from '/lanes/peer-log.js';
import { uuid } from '/lanes/uuid.js';
import { Silence, backoff, sleep } from '/lanes/waiting.js';
import { socketUrl } from '/lanes/websocket.js';

const LARGEST = 256 * 1024; // bytes of a message that every browser takes

export class WebRtc extends Lane {
  static lane = 'webrtc';
  static title = 'WebRTC data channel';
  static how = 'From tab to tab; WebSocket on /api/signal';

  id = undefined;
  #log = new PeerLog();
  #links = new Set(); // { peer, pc, channel, silence, offered, failures, log }; `log` once the other side said hello
  #socket = undefined; // to the signalling server
  #signal = undefined; // aborts when that is lost
  #present = new Set(); // the peers that the server says are in the room
  #early = []; // candidates that came before the description that they belong to
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
        this.#early = [];
        [...this.#links].filter(({ log }) => !log).forEach((link) => this.#drop(link));
        reject(signal.reason);
      });
    });
  }

  stop() {
    super.stop();
    [...this.#links].forEach((link) => this.#drop(link));
  }

  // Signalling: lesson 07.

  async #introduce({ type, from, ...message }) {
    const link = [...this.#links].findLast(({ peer }) => peer === from);
    if (type === 'welcome') {
      this.identify(message.peer_id);
      this.opened('holding', 'waiting for a peer: open a second tab');
      this.#present = new Set(message.peers);
      await Promise.all(message.peers.map((peer) => this.#offer(peer, 0))); // the newcomer offers
    } else if (type === 'joined') {
      this.#present.add(message.peer_id);
    } else if (type === 'left') {
      this.#present.delete(message.peer_id);
      [...this.#links].filter(({ peer, log }) => peer === message.peer_id && !log).forEach((gone) => this.#drop(gone));
    } else if (type === 'offer') {
      await this.#answer(from, message.sdp);
    } else if (type === 'answer' && link) {
      await link.pc.setRemoteDescription({ type, sdp: message.sdp });
      await this.#addEarly(link);
    } else if (type === 'candidate') {
      if (link?.pc.remoteDescription) {
        await link.pc.addIceCandidate(message.candidate);
      } else if (this.#early.length < 1000) {
        this.#early.push({ from, candidate: message.candidate });
      }
    } else if (type === 'error') {
      this.report('problem', message.error);
    }
  }

  async #offer(peer, failures) {
    const link = this.#link(peer, { offered: true, failures });
    this.#use(link, link.pc.createDataChannel('room'));
    await link.pc.setLocalDescription(); // makes the offer
    this.#tell({ to: peer, type: 'offer', sdp: link.pc.localDescription.sdp });
  }

  async #answer(peer, sdp) {
    const link = this.#link(peer, { offered: false });
    link.pc.addEventListener('datachannel', ({ channel }) => this.#use(link, channel));
    await link.pc.setRemoteDescription({ type: 'offer', sdp });
    await link.pc.setLocalDescription(); // makes the answer
    this.#tell({ to: peer, type: 'answer', sdp: link.pc.localDescription.sdp });
    await this.#addEarly(link);
  }

  async #addEarly(link) {
    const mine = this.#early.filter(({ from }) => from === link.peer);
    this.#early = this.#early.filter(({ from }) => from !== link.peer);
    for (const { candidate } of mine) {
      await link.pc.addIceCandidate(candidate);
    }
  }

  #tell(message) {
    if (this.#socket.readyState === WebSocket.OPEN) {
      this.#socket.send(JSON.stringify(message));
    }
  }

  // The channels.

  #link(peer, how) {
    [...this.#links].filter((old) => old.peer === peer && !old.log).forEach((old) => this.#drop(old));
    const pc = new RTCPeerConnection({ iceServers: [] });
    const link = { peer, pc, channel: undefined, log: undefined, ...how };
    this.#links.add(link);
    // Offer or answer can be lost with the other side's signalling: then neither ICE nor a channel ever fails.
    link.silence = new Silence(Lane.SILENCE, ({ message }) => this.#lose(link, message));
    pc.addEventListener('icecandidate', ({ candidate }) => {
      candidate && this.#tell({ to: peer, type: 'candidate', candidate });
    });
    pc.addEventListener('connectionstatechange', () => pc.connectionState === 'failed' && this.#lose(link));
    return link;
  }

  #use(link, channel) {
    link.channel = channel;
    channel.addEventListener('open', () => this.#say(link, this.#log.hello()));
    channel.addEventListener('close', () => this.#lose(link));
    channel.addEventListener('message', ({ data }) => {
      this.wire('received', data);
      try {
        this.#hear(link, parsed(data));
      } catch ({ message }) {
        this.report('problem', message);
      }
    });
  }

  #hear(link, value) {
    if (!this.#links.has(link)) {
      return; // what a dropped channel still brings, the next one brings again
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

  /** The other side is ready. A channel that it had before, under whichever peer_id, makes way for this one. */
  #meet(link, hello) {
    [...this.#links].filter((old) => old !== link && old.log === hello.log).forEach((old) => this.#drop(old));
    if (this.#log.knows(hello.log)) {
      this.wire('reconnection', 'a data channel is open again');
    }
    link.log = hello.log;
    link.silence.end(); // from now on ICE notices when the peer is gone
    this.show(...this.#signalling);
    this.#log.missing(hello).forEach((message) => this.#say(link, message));
  }

  #say(link, message) {
    if (!this.#links.has(link)) {
      return;
    }
    try {
      const data = JSON.stringify(message);
      link.channel.send(data);
      this.wire('sent', data);
    } catch (error) { // it is closed, or its buffer is full: another one begins where the peer is
      this.#lose(link, error.message);
    }
  }

  /** A channel was lost. Who offered it offers another, if the peer is still there. */
  async #lose(link, why = 'closed') {
    if (!this.#links.has(link)) {
      return;
    }
    const { peer, offered, log } = link;
    this.report('problem', `data channel: ${why}`);
    this.#drop(link);
    const failures = log ? 0 : link.failures + 1;
    await sleep(backoff(failures), this.#signal);
    if (offered && !this.#signal.aborted && this.#present.has(peer)) {
      await this.#offer(peer, failures);
    }
  }

  #drop(link) {
    this.#links.delete(link);
    link.silence.end();
    link.pc.close();
    this.show(...this.#signalling);
  }

  async send(sender, text, id = uuid()) {
    if (this.state === 'stopped') {
      throw new Error('the lane is stopped');
    }
    const message = { id, sender, text, timestamp: Date.now() / 1000, room: this.room };
    if (new TextEncoder().encode(JSON.stringify(message)).length > LARGEST - 1024) {
      throw new Error('too long for a message over a data channel');
    }
    const numbered = this.#log.append(message);
    [...this.#links].filter(({ log }) => log).forEach((link) => this.#say(link, numbered));
    this.receive(message);
    return id;
  }

  /** Open is what has a channel, whatever becomes of the server. */
  show(state, text = state) {
    this.#signalling = [state, text];
    const open = [...this.#links].filter(({ log }) => log).length;
    if (open > 0 && state !== 'stopped') {
      super.show('open', open === 1 ? 'open to 1 peer' : `open to ${open} peers`);
    } else {
      super.show(state, text);
    }
  }
}
