// Sends something once, by a POST. If no answer comes, the request may have arrived or not. The browser itself also
// repeats a POST when its connection is lost. A key makes the server recognise the repetition, so asking again is safe.

import { uuid } from '../overwire.js';

export class Once {
  // { said, key }: it is not known whether this was taken. There was no answer, even to the second request; or there
  // was a 5xx, which says nothing of the request before it.
  #unanswered = undefined;

  /** `post(content)` makes the request. Content that may have been taken has the same key when it is sent again. */
  async say(content, post) {
    const said = JSON.stringify(content);
    const key = this.#unanswered?.said === said ? this.#unanswered.key : uuid();
    this.#unanswered = undefined;
    const keyed = { ...content, key };
    try {
      return await post(keyed).catch((error) => {
        if (isRefusal(error)) {
          throw error;
        }
        return post(keyed);
      });
    } catch (error) {
      if (!isRefusal(error) || error.status >= 500) {
        this.#unanswered = { said, key };
      }
      throw error;
    }
  }
}

const isRefusal = ({ status }) => status !== undefined;
