// HTTP streaming: one answer that does not end, one JSON value on each line.

import { Lane, checked } from '/lanes/lane.js';

export class Stream extends Lane {
  static lane = 'stream';
  static title = 'HTTP streaming';
  static how = 'GET /api/stream, one answer that does not end';

  async connect(signal) {
    const response = await checked(await fetch(this.url('/api/stream'), { signal }));
    this.opened();
    for await (const line of lines(response.body)) {
      if (line !== '') { // an empty line is a heartbeat
        this.receiveValue(JSON.parse(line));
      }
    }
  }
}

/**
 * The lines of a body. Where one read ends means nothing: a line, even one character of it, can be
 * split over two reads. So the decoder keeps the bytes of an unfinished character, and `rest` keeps
 * the unfinished line.
 */
async function* lines(body) {
  const reader = body.getReader();
  const decoder = new TextDecoder();
  let rest = '';
  try {
    for (;;) {
      const { done, value } = await reader.read();
      if (done) {
        return; // a line without its end was cut off: the cursor brings it again, whole
      }
      const parts = (rest + decoder.decode(value, { stream: true })).split('\n');
      rest = parts.pop();
      yield* parts;
    }
  } finally {
    reader.cancel().catch(() => {}); // whoever stops reading lets go of the connection
  }
}
