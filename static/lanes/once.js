// Sends something once, by a POST. If no answer comes, the request may have arrived or not. The browser itself also
// repeats a POST when its connection is lost. A key makes the server recognise the repetition, so asking again is safe.

import { uuid } from './uuid.js';

export class Once {
  #unanswered = undefined; // { said, key }: got no answer, even to the second request

  /** `post(content)` makes the request. Content that got no answer has the same key when it is sent again. */
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
      if (!isRefusal(error)) {
        this.#unanswered = { said, key };
      }
      throw error;
    }
  }
}

const isRefusal = ({ status }) => status !== undefined;
