// The connection to one other peer: its RTCPeerConnection, the signalling that sets it up (lesson 07), and the data
// channel on it.
//
// A link reports by events: `open`; `text`, with what the peer said; `lost`, once, with the reason.

import { Silence, uuid } from '../overwire.js';

const EARLY = 100; // candidates that are kept before the description that they belong to

export class Link extends EventTarget {
  /** The id of the peer's log, after the peer has introduced itself. The channel is of no use before. */
  log = undefined;
  #connection = new RTCPeerConnection({ iceServers: [] });
  #channel = undefined;
  #early = []; // candidates
  #tell;
  #silence;
  #over = false;

  /**
   * `tell` sends a message to the peer through the server. Each message carries the link's id, which the offering side
   * chose: two links to one peer can exist at a time, and their messages must not be mixed up. `failures` counts the
   * links before this one. The peer has to introduce itself within `limit` milliseconds.
   */
  constructor(peer, tell, { id = uuid(), failures = 0, limit }) {
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
    // Offer or answer can be lost with the other side's signalling. Then ICE never begins, and so it never fails.
    this.#silence = new Silence(limit, ({ message }) => this.#lose(message));
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
    } else if (this.#early.length < EARLY) {
      this.#early.push(candidate);
    }
  }

  #use(channel) {
    this.#channel = channel;
    channel.addEventListener('open', () => this.#report('open'));
    channel.addEventListener('message', ({ data }) => this.#report('text', data));
    channel.addEventListener('close', () => this.#lose('the data channel was closed'));
  }

  /** The peer has introduced itself. From now on ICE notices when the peer is gone. */
  meet(log) {
    this.log = log;
    this.#silence.end();
  }

  /** Sends a text. False if it could not be sent. */
  say(text) {
    try {
      this.#channel.send(text);
      return true;
    } catch (error) { // the channel is closed, or its buffer is full: the next link resumes at the peer's position
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

  /** A closed link reports nothing: the next link brings it again. */
  #report(name, detail) {
    if (!this.#over) {
      this.dispatchEvent(new CustomEvent(name, { detail }));
    }
  }
}
