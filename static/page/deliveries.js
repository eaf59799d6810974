// How long a message took to arrive in a lane. For a message of this page: from the moment of its sending, by the
// page's steady clock. For any other: from its timestamp, by the server's clock, as far as that is known here.

const REMEMBERED = 1000; // messages that were sent, and arrivals that wait for their id

export class Deliveries extends EventTarget {
  #sent = new Map(); // id -> when it was sent: Map of the label it was sent for, or undefined for all -> moment
  #sending = new Set(); // what was sent and has no id yet
  #waiting = []; // arrivals that may be one of #sending
  #ahead = 0; // milliseconds by which the server's clock is ahead of this one

  /** What the server's clock said between two moments of this one, all in milliseconds. */
  compareClocks(before, told, after) {
    const ahead = told - (before + after) / 2;
    this.#ahead = Math.abs(ahead) > (after - before) / 2 ? ahead : 0; // less than that says nothing
  }

  /** The time by the clock that the timestamps of a lane are of: on a data channel it is that of a peer. */
  now(label) {
    return Date.now() + (label === 'webrtc' ? 0 : this.#ahead);
  }

  /**
   * To be called when something is sent, with `label` if it arrives in one lane only. The returned function ends the
   * sending: it is to be called with the message's id, if that is known. The message may arrive before, so arrivals
   * that look like it wait for that.
   */
  sending(sender, text, label, id) {
    const one = { sender, text, label, at: performance.now() };
    if (id !== undefined) {
      this.#remember(one, id);
    }
    this.#sending.add(one);
    return (id) => this.#settle(one, id);
  }

  /**
   * A message arrived in a lane, which was first started at `since`, by `now(label)`. Event `delivery` tells its delay,
   * perhaps later. Says whether it is of this time: what is older than the lane comes from the history, and has no delay.
   */
  arrived(label, message, since) {
    const arrival = { label, message, at: performance.now(), clock: this.now(label), since };
    const sentAt = this.#sent.get(message.id);
    if (sentAt?.has(label) || sentAt?.has(undefined)) {
      this.#tell(arrival, sentAt.get(label) ?? sentAt.get(undefined));
    } else if ([...this.#sending].some((one) => alike(one, arrival))) {
      this.#waiting.push(arrival);
      if (this.#waiting.length > REMEMBERED) {
        this.#tell(this.#waiting.shift());
      }
    } else if (message.timestamp * 1000 < since) {
      return false;
    } else {
      this.#tell(arrival);
    }
    return true;
  }

  #settle(one, id) {
    if (!this.#sending.delete(one)) {
      return;
    }
    if (id !== undefined) {
      this.#remember(one, id);
    }
    const waiting = this.#waiting;
    this.#waiting = [];
    for (const arrival of waiting) {
      const { id: arrivedId } = arrival.message;
      if (alike(one, arrival) && (id === undefined || arrivedId === undefined || arrivedId === id)) {
        this.#tell(arrival, one.at);
      } else if ([...this.#sending].some((other) => alike(other, arrival))) {
        this.#waiting.push(arrival);
      } else {
        this.#tell(arrival);
      }
    }
  }

  #remember({ label, at }, id) {
    this.#sent.set(id, (this.#sent.get(id) ?? new Map()).set(label, at));
    if (this.#sent.size > REMEMBERED) {
      this.#sent.delete(this.#sent.keys().next().value);
    }
  }

  #tell({ label, message, at, clock }, sentAt) {
    const delay = sentAt === undefined ? Math.max(0, clock - message.timestamp * 1000) : at - sentAt;
    this.dispatchEvent(new CustomEvent('delivery', { detail: { label, id: message.id, delay, message } }));
  }
}

/** Whether an arrival may be what is being sent. A mailbox has no senders, and brings only what its own lane sent. */
function alike({ sender, text, label }, { label: arrivedIn, message }) {
  return message.text === text && (message.sender ?? sender) === sender && (label ?? arrivedIn) === arrivedIn;
}

/** A delay as text of bounded length: `0.8 ms`, `12 ms`, `4.2 s`, `3 min`. */
export function asText(delay) {
  if (delay < 9.95) {
    return `${delay.toFixed(1)} ms`;
  }
  if (delay < 9_999.5) {
    return `${Math.round(delay)} ms`;
  }
  return delay < 600_000 ? `${(delay / 1000).toFixed(1)} s` : `${Math.round(delay / 60_000)} min`;
}
