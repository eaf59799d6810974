// Says something once, by a POST. When no answer comes, it may have arrived or not; and a browser may repeat a POST by
// itself when the connection is lost. By a key the server knows it again, so it is safe to ask once more.

import { uuid } from '/lanes/uuid.js';

export class Once {
  #unanswered = undefined; // { said, key }: what may have arrived or not, also when it was asked for twice

  /** `post(content)` makes the request. What is said again after it got no answer has the same key. */
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
