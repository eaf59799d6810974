// Requests whose answer can be read while it arrives, and which fail when the connection falls silent.

import { Silence, controllerWithin } from './waiting.js';

/**
 * Makes a request and yields the text of the answer as it arrives. Calls `onHead` when the head is there. Throws if the
 * status is not a success, with `status` and the server's explanation; if nothing arrives for `limit` milliseconds; and
 * if `signal` aborts.
 */
export async function* request(url, { limit, signal, onHead, ...init }) {
  const over = controllerWithin(signal);
  const silence = new Silence(limit, (error) => over.abort(error));
  try {
    const response = await plainly('the server cannot be reached', over.signal,
      fetch(url, { ...init, signal: over.signal }));
    silence.heard();
    const texts = decoded(response.body, over.signal, silence);
    if (!response.ok) {
      throw refusal(response, await whole(texts));
    }
    onHead?.();
    yield* texts;
  } finally {
    silence.end();
    over.abort(); // whatever ends this early ends the request
  }
}

/** Every browser has other words for an error of the network, and for the end of a request. Here they are the same. */
async function plainly(words, signal, promise) {
  try {
    return await promise;
  } catch (error) {
    throw signal.aborted ? signal.reason : error instanceof TypeError ? new Error(words, { cause: error }) : error;
  }
}

/** The pieces of a body as text. A character can be split over two pieces: the decoder keeps its first part. */
async function* decoded(body, signal, silence) {
  const reader = body.getReader();
  const decoder = new TextDecoder();
  try {
    for (;;) {
      const { done, value } = await plainly('the connection was lost', signal, reader.read());
      silence.heard();
      if (done) {
        return;
      }
      yield decoder.decode(value, { stream: true });
    }
  } finally {
    reader.cancel().catch(() => {}); // a reader that stops early gives the connection back
  }
}

/** All the texts, joined. */
export async function whole(texts) {
  let all = '';
  for await (const text of texts) {
    all += text;
  }
  return all;
}

/** The error for a status that is not a success. A proxy answers in HTML: then only the status is known. */
function refusal({ status, statusText }, content) {
  let said;
  try {
    said = JSON.parse(content).error;
  } catch {
    said = statusText;
  }
  return Object.assign(new Error(`${status} ${said ?? statusText}`), { status });
}
