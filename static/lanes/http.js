// Requests whose answer can be read while it arrives, and that notice when nothing comes any more.

import { Silence } from '/lanes/waiting.js';

/**
 * Makes a request and yields the text of the answer as it comes. Calls `onHead` when the header section is there.
 * Throws when the status is no success, with `status` and what the server said was wrong; when nothing
 * comes for `limit` milliseconds; and when `signal` aborts.
 */
export async function* request(url, { limit, signal, onHead, ...init }) {
  const dead = new AbortController();
  const silence = new Silence(limit, (error) => dead.abort(error));
  try {
    const signals = [dead.signal, signal].filter(Boolean);
    const response = await plainly('the server cannot be reached',
      fetch(url, { ...init, signal: AbortSignal.any(signals) }));
    silence.heard();
    const texts = decoded(response.body, silence);
    if (!response.ok) {
      throw refusal(response, await whole(texts));
    }
    onHead?.();
    yield* texts;
  } finally {
    silence.end();
  }
}

/** A browser tells of the network in words of its own, and each in other ones; here they are the same everywhere. */
async function plainly(words, promise) {
  try {
    return await promise;
  } catch (error) {
    throw error instanceof TypeError ? new Error(words, { cause: error }) : error;
  }
}

/** The pieces of a body as text. A character can be split over two of them: the decoder keeps the first part. */
async function* decoded(body, silence) {
  const reader = body.getReader();
  const decoder = new TextDecoder();
  try {
    for (;;) {
      const { done, value } = await plainly('the connection was lost', reader.read());
      silence.heard();
      if (done) {
        return;
      }
      yield decoder.decode(value, { stream: true });
    }
  } finally {
    reader.cancel().catch(() => {}); // whoever stops reading lets go of the connection
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

/** What a status that is no success means. A proxy answers in HTML: then there is only the status. */
function refusal({ status, statusText }, content) {
  let said;
  try {
    said = JSON.parse(content).error;
  } catch {
    said = statusText;
  }
  return Object.assign(new Error(`${status} ${said ?? statusText}`), { status });
}
