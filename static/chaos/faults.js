// The faults of the chaos panel: what each imitates, and what a lane does about it.

/** Faults that stay until they are off. `steps` are the values of the control; the first is off. */
export const SWITCHES = [
  {
    fault: 'delay', title: 'Delay', steps: [0, 50, 100, 200, 300, 500, 1000, 2000, 5000, 10_000, 30_000],
    text: (value) => `${value.toLocaleString('en-US')} ms`,
    imitates: 'A long way: a satellite, a bad mobile network.',
    lane: 'The lane only waits longer. Beyond 20 s its heartbeat watch takes the connection for dead and makes another.',
  },
  {
    fault: 'buffer', title: 'Buffer', steps: [0, 256, 1024, 4096, 16_384, 65_536],
    text: (value) => `${value.toLocaleString('en-US')} bytes`,
    imitates: 'A proxy that collects bytes before it passes them on. Complete answers come through, so polls work; a '
      + 'stream looks dead.',
    lane: 'The heartbeat watch reconnects in vain. This is why long polling still exists.',
  },
  {
    fault: 'slow', title: 'Slow reader', steps: [0, 64, 256, 1024, 4096, 16_384],
    text: (value) => `${value.toLocaleString('en-US')} B/s`,
    imitates: 'A phone at the edge of its network. Bytes queue up at the server, which closes the connection of a '
      + 'reader that is too slow.',
    lane: 'The lane comes back with its cursor and gets what it missed.',
  },
  {
    fault: '502', title: '502', steps: [0, 1], text: () => 'on',
    imitates: 'A proxy whose server is away: it answers new requests with an error in HTML.',
    lane: 'The lane does not take the page for data. It retries after a random wait that doubles, up to 30 s.',
  },
];

/** Faults that strike once: the open exchanges of a lane, or else its next one. `happened` is for the log. */
export const STRIKES = [
  {
    fault: 'drop', title: 'Drop', happened: 'connection closed',
    imitates: 'A server process that ends, a router that restarts.',
    lane: 'The lane sees the end at once, waits a random moment and resumes after its cursor.',
  },
  {
    fault: 'cut', title: 'Cut', happened: 'cut in the middle of a message',
    imitates: 'A connection that breaks while something is sent.',
    lane: 'Half a message is not a message: the lane drops it. Its cursor, which did not move, brings it whole.',
  },
  {
    fault: 'half-open', title: 'Half-open', happened: 'half-open: the other side has fallen silent',
    imitates: 'A laptop that was closed, a NAT that forgot: nobody says that the connection is gone.',
    lane: 'Only the missing heartbeat does: after 20 s of silence (polls: at their own limits) the lane gives up.',
  },
];

/** For all lanes: the tap refuses every connection for some seconds. */
export const DOWN = {
  fault: 'down', title: 'Server down', seconds: [2, 5, 10, 30, 60],
  happened: 'down: open connections are reset, new ones are refused',
  imitates: 'A server that is restarted, or unplugged: open connections are reset, and new ones refused.',
  lane: 'Each lane retries after a random wait that doubles, so that all the clients do not return in one moment.',
};

/** The end of DOWN. */
export const UP = { fault: 'up', happened: 'up again' };

/** A command of the server: it is not a fault of the way. */
export const RESTART = {
  fault: 'restart', title: 'Restart the server\u2019s state',
  happened: 'restarted: rooms, mailboxes and clients are forgotten',
  imitates: 'A deployment without a database. Every connection is reset, and the cursors belong to a log that is gone.',
  lane: 'The lanes come back and say that messages are missing.',
};
