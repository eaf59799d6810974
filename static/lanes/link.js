// One other peer: the RTCPeerConnection with it, how the two agree on it (lesson 07), and the data channel on it.
//
// A link reports by events: `open`; `text`, with what the peer said; `lost`, once, with the reason.

import { Lane } from '/lanes/lane.js';
import { uuid } from '/lanes/uuid.js';
import { Silence } from '/lanes/waiting.js';

export class Link extends EventTarget {
  /** Which log is the peer's, once it has said so. Only then is the channel of use. */
  log = undefined;
  #connection = new RTCPeerConnection({ iceServers: [] });
  #channel = undefined;
  #early = []; // candidates that came before the description that they belong to
  #tell;
  #silence;
  #over = false;

  /**
   * `tell` sends a message to the peer through the server. Each names the link, as it was named by who offered it: two
   * links to one peer may be under way, and what is said of the first must not be taken for the second. `failures`: of
   * the links before this one.
   */
  constructor(peer, tell, { id = uuid(), failures = 0 } = {}) {
    super();
    this.peer = peer;
    this.id = id;
    this.failures = failures;
    this.offered = false;
    this.#tell = (message) => tell({ to: peer, link: id, ...message });
    this.#connection.addEventListener('icecandidate', ({ candidate }) => {
      candidate && this.#tell({ type: 'candidate', candidate });
    });
    this.#connection.addEventListener('connectionstatechange', () => {
      this.#connection.connectionState === 'failed' && this.#lose('the connection failed');
    });
    // Offer or answer can be lost with the other side's signalling: then ICE does not even begin to fail.
    this.#silence = new Silence(Lane.SILENCE, ({ message }) => this.#lose(message));
  }

  async offer() {
    this.offered = true;
    this.#use(this.#connection.createDataChannel('room'));
    await this.#connection.setLocalDescription(); // makes the offer
    this.#tell({ type: 'offer', sdp: this.#connection.localDescription.sdp });
  }

  async answer(sdp) {
    this.#connection.addEventListener('datachannel', ({ channel }) => this.#use(channel));
    await this.#describe({ type: 'offer', sdp });
    await this.#connection.setLocalDescription(); // makes the answer
    this.#tell({ type: 'answer', sdp: this.#connection.localDescription.sdp });
  }

  /** The peer's answer came. */
  async answered(sdp) {
    await this.#describe({ type: 'answer', sdp });
  }

  async #describe(description) {
    await this.#connection.setRemoteDescription(description);
    for (const candidate of this.#early.splice(0)) {
      await this.#connection.addIceCandidate(candidate);
    }
  }

  async addCandidate(candidate) {
    if (this.#connection.remoteDescription) {
      await this.#connection.addIceCandidate(candidate);
    } else if (this.#early.length < 100) {
      this.#early.push(candidate);
    }
  }

  #use(channel) {
    this.#channel = channel;
    channel.addEventListener('open', () => this.#report('open'));
    channel.addEventListener('message', ({ data }) => this.#report('text', data));
    channel.addEventListener('close', () => this.#lose('the data channel was closed'));
  }

  /** The peer has introduced itself. From now on ICE notices when it is gone. */
  meet(log) {
    this.log = log;
    this.#silence.end();
  }

  /** True if the text is on its way. */
  say(text) {
    try {
      this.#channel.send(text);
      return true;
    } catch (error) { // it is closed, or its buffer is full: the next one goes on where the peer is
      this.#lose(error.message);
      return false;
    }
  }

  #lose(why) {
    if (!this.#over) {
      this.close();
      this.dispatchEvent(new CustomEvent('lost', { detail: why }));
    }
  }

  close() {
    this.#over = true;
    this.#silence.end();
    this.#connection.close();
  }

  /** What a closed channel still brings, the next one brings again. */
  #report(name, detail) {
    if (!this.#over) {
      this.dispatchEvent(new CustomEvent(name, { detail }));
    }
  }
}
