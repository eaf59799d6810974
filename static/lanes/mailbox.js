// What the isolated lanes share. Each reads a mailbox of its own, which nobody else sees. The server names the mailbox
// (`connection_id`), and drops it a minute after its last reader left.

/** The lane reads this mailbox from now on. The content of its former mailbox is gone. */
export function adopt(lane, id, recovered = true) {
  const isOther = lane.id !== undefined && lane.id !== id;
  lane.identify(id);
  if (isOther) {
    lane.missing('Messages may be missing: the mailbox is gone, this is a new one.');
  } else if (recovered === false) {
    lane.missing();
  }
}

/** A text from a mailbox in the form of a room's message. It has no sender, because only one lane can send to it. */
export function asMessage({ id, message, timestamp }) {
  return { id, sender: undefined, text: message, timestamp, room: undefined };
}
