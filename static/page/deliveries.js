// The delay of each message in each lane. For a message of this page it is the time since the message was sent, by the
// page's steady clock. For any other it is the time since the message's timestamp, by the server's clock as this page
// estimates it.

const REMEMBERED = 1000; // sent messages, and arrivals that wait for an id

export class Deliveries extends EventTarget {
  #sent = new Map(); // id -> Map: label of the one lane it arrives in, or undefined for all -> time of sending
  #sending = new Set(); // messages that were sent and have no id yet
  #waiting = []; // arrivals that may be one of #sending
  #ahead = 0; // milliseconds by which the server's clock is ahead of this one

  /** The server's clock showed `told` between the times `before` and `after` of this clock. All in milliseconds. */
  compareClocks(before, told, after) {
    const ahead = told - (before + after) / 2;
    this.#ahead = Math.abs(ahead) > (after - before) / 2 ? ahead : 0; // a smaller difference means nothing
  }

  /** The time by the clock that makes the timestamps of a lane. On a data channel that is the clock of a peer. */
  now(label) {
    return Date.now() + (label === 'webrtc' ? 0 : this.#ahead);
  }

  /** This moment by the page's steady clock, and by the clock of a lane's timestamps. */
  moment(label) {
    return { at: performance.now(), clock: this.now(label) };
  }

  /**
   * Notes that a message is being sent; `label` names the lane if it arrives in one lane only. Call the returned
   * function when the sending ends, with the message's id if it is known. The message may arrive before that: arrivals
   * that look like it wait for the id.
   */
  sending(sender, text, label, id) {
    const one = { sender, text, label, at: performance.now() };
    if (id !== undefined) {
      this.#remember(one, id);
    }
    this.#sending.add(one);
    return (known) => this.#settle(one, known);
  }

  /**
   * Notes that a message arrived in a lane that was started at the `moment` `since`. The event `delivery` says its
   * delay, perhaps later. Returns false for a message that is older than the lane: it comes from the history,
   * and has no delay.
   */
  arrived(label, message, since) {
    const arrival = { label, message, ...this.moment(label) };
    const sent = this.#sent.get(message.id);
    const sentAt = sent?.get(label) ?? sent?.get(undefined);
    if (sentAt !== undefined) {
      if (sentAt < since.at) {
        return false;
      }
      this.#tell(arrival, sentAt);
    } else if ([...this.#sending].some((one) => alike(one, arrival))) {
      this.#waiting.push(arrival);
      if (this.#waiting.length > REMEMBERED) {
        this.#tell(this.#waiting.shift());
      }
    } else if (message.timestamp * 1000 < since.clock) {
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

/** Whether an arrival may be this message. A mailbox has no senders: it brings only what its own lane sent. */
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
