// The faults of the chaos panel: what each imitates, and what a lane does about it.

/** Until they are off; `steps` are the values of a control, the first is off. */
export const SWITCHES = [
  {
    fault: 'delay', title: 'Delay', steps: [0, 50, 100, 200, 300, 500, 1000, 2000, 5000, 10_000, 30_000],
    text: (value) => `${value.toLocaleString('en-US')} ms`,
    about: 'A long way: a satellite, a bad mobile network. The lane only waits longer; beyond 20 s its heartbeat watch '
      + 'takes the connection for dead and makes another.',
  },
  {
    fault: 'buffer', title: 'Buffer', steps: [0, 256, 1024, 4096, 16_384, 65_536],
    text: (value) => `${value.toLocaleString('en-US')} bytes`,
    about: 'A proxy that collects what it should pass on. Complete answers come through, so polls work; a stream looks '
      + 'dead, and the heartbeat watch reconnects it in vain: this is why long polling still exists.',
  },
  {
    fault: 'slow', title: 'Slow reader', steps: [0, 64, 256, 1024, 4096, 16_384],
    text: (value) => `${value.toLocaleString('en-US')} B/s`,
    about: 'A phone at the edge of its network. Bytes queue up at the server, which cuts a reader that is too far '
      + 'behind; the lane comes back with its cursor and gets what it missed.',
  },
  {
    fault: '502', title: '502', steps: [0, 1], text: () => 'on',
    about: 'A proxy whose server is away answers with HTML: new requests fail. The lane does not take the page for '
      + 'data; it retries after a random wait that doubles, up to 30 s.',
  },
];

/** Once, at the open exchange of a lane or at its next one. `happened` is for the log. */
export const STRIKES = [
  {
    fault: 'drop', title: 'Drop', happened: 'connection closed',
    about: 'A server process that ends, a router that restarts. The lane sees the end at once, waits a random moment '
      + 'and goes on behind its cursor.',
  },
  {
    fault: 'cut', title: 'Cut', happened: 'cut in the middle of a message',
    about: 'A connection that breaks while something is sent. Half a message is no message: the lane drops it, and its '
      + 'cursor, which did not move, brings it whole.',
  },
  {
    fault: 'half-open', title: 'Half-open', happened: 'half-open: the other side has fallen silent',
    about: 'A laptop that was closed, a NAT that forgot: nobody tells that the connection is gone. Only the missing '
      + 'heartbeat does: after 20 s of silence (polls: at their own limits) the lane gives it up.',
  },
];

export const RESTART = {
  fault: 'restart', title: 'Restart the server\u2019s state',
  happened: 'restarted: rooms, mailboxes and clients are forgotten',
  about: 'A deployment without a database. Every connection drops, and the cursors are of a log that is gone: the '
    + 'lanes come back and say that messages are missing.',
};
