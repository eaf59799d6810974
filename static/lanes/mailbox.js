// What the isolated lanes share: each reads a mailbox of its own, which nobody else sees. The server names
// it (`connection_id`), and forgets it a minute after its last reader.

/** The lane reads this mailbox from now on. What was in another one before it is gone. */
export function adopt(lane, id, recovered = true) {
  const isOther = lane.id !== undefined && lane.id !== id;
  lane.identify(id);
  if (isOther) {
    lane.missing('Messages may be missing: the mailbox is gone, this is a new one.');
  } else if (recovered === false) {
    lane.missing();
  }
}

/** A text from a mailbox in the form of a room's message: it has no sender, because only one can send. */
export function asMessage({ id, message, timestamp }) {
  return { id, sender: undefined, text: message, timestamp, room: undefined };
}
