// The state of a lane after a strike: how long it is away, and whether it loses or repeats messages. No DOM.
//
// A message is lost if the lane received `recovered: false`, or if a number is missing in the sequence of ids. It is
// repeated if the lane has seen its id before.

const REMEMBERED = 1000; // ids
const VERDICT_AFTER = 1000; // milliseconds after the lane is open again: a replay is over by then
const NOTICED_WITHIN = 3000; // milliseconds: a browser can repeat a request by itself, and the lane notices nothing

const AWAY = ['waiting', 'connecting'];
const plural = (number, noun) => `${number} ${noun}${number === 1 ? '' : 's'}`;
const CURSOR = /^(.{8}-.{4}-8.{3})-.{4}-..([0-9a-f]{10})$/; // the log, and the number in it
const zeros = () => ({ lost: 0, silent: 0, repeated: 0, came: 0 });

export class Aftermath {
  #tell;
  #lane = undefined;
  #state = 'stopped';
  #seen = new Set();
  #last = undefined; // { log, number } of the last message, unless the lane knows that messages are missing
  #counts = undefined; // since the strike, or since the connection was lost
  #awaySince = undefined;
  #timer = undefined;

  #isInSequence;

  /** `tell(kind, text)`: kind is 'state', 'problem', 'good' or 'bad'. `isInSequence`: no id of the lane is skipped. */
  constructor(tell, isInSequence) {
    this.#tell = tell;
    this.#isInSequence = isInSequence;
  }

  /** Replaces the lane object. The messages of the new one can be from another room. */
  watch(lane) {
    this.#lane = lane;
    this.#seen.clear();
    this.#last = undefined;
    this.#forget();
    this.#state = lane.state ?? 'stopped';
    const listen = (name, act) => lane.addEventListener(name, ({ detail }) => this.#lane === lane && act(detail));
    listen('state', ({ state, text }) => {
      this.#change(this.#state, state, text);
      this.#state = state;
    });
    listen('message', ({ id }) => this.#came(id));
    listen('notice', (text) => this.#missed(text));
    listen('problem', (text) => this.#tell('problem', text));
  }

  /** A fault has taken effect. The lane may have noticed it before. */
  strike(fault) {
    if (this.#awaySince === undefined && this.#lane && this.#state !== 'stopped') {
      this.#counts = { ...zeros(), ...this.#counts, came: 0 }; // a verdict that was due is now on both strikes
      if (fault !== 'half-open') { // a lane notices that one late, by its nature
        clearTimeout(this.#timer);
        const unnoticed = 'the lane has not noticed (a browser repeats a request by itself); so far ';
        this.#timer = setTimeout(() => this.#conclude(unnoticed), NOTICED_WITHIN);
      }
    }
  }

  #change(last, state, text) {
    if (AWAY.includes(state)) {
      if (!AWAY.includes(last) && last !== 'stopped') {
        this.#awaySince = performance.now();
        this.#counts ??= zeros();
        clearTimeout(this.#timer);
      }
      if (state === 'waiting') {
        this.#tell('state', text);
      }
    } else if (state === 'stopped') {
      this.#tell('state', text);
      this.#forget();
    } else if (this.#awaySince !== undefined) {
      this.#tell('state', `${state} again after ${((performance.now() - this.#awaySince) / 1000).toFixed(2)} s`);
      this.#awaySince = undefined;
      this.#timer = setTimeout(() => this.#conclude(''), VERDICT_AFTER);
    }
  }

  #conclude(before) {
    const { lost, silent, repeated, came } = this.#counts;
    const losses = lost === 0 ? 'nothing lost' : `messages lost, ${silent > 0 ? 'without' : 'with'} a notice`;
    const repeats = repeated > 0 ? `${plural(repeated, 'message')} repeated` : 'nothing repeated';
    const since = came > 0 ? `; ${plural(came, 'message')} since then` : '';
    this.#tell(lost + repeated > 0 ? 'bad' : 'good', `${before}${losses}, ${repeats}${since}`);
    this.#counts = undefined;
  }

  #came(id) {
    if (this.#counts) {
      this.#counts.came += 1;
    }
    if (!this.#seen.has(id)) {
      this.#follow(id);
      this.#seen.add(id);
      if (this.#seen.size > REMEMBERED) {
        this.#seen.delete(this.#seen.values().next().value);
      }
    } else {
      this.#tell('bad', 'a message came twice');
      if (this.#counts) {
        this.#counts.repeated += 1;
      }
    }
  }

  /** Finds messages that are missing without a notice. */
  #follow(id) {
    const [, log, digits] = this.#isInSequence && CURSOR.exec(id) || [];
    const last = this.#last;
    this.#last = log && { log, number: parseInt(digits, 16) };
    const missing = log && last?.log === log ? this.#last.number - last.number - 1 : 0;
    if (missing < 0) {
      this.#tell('bad', 'a message came too late');
    } else if (missing > 0) {
      this.#tell('bad', `${plural(missing, 'message')} missing, without a notice`);
      if (this.#counts) {
        this.#counts.lost += missing;
        this.#counts.silent += missing;
      }
    }
  }

  #missed(text) {
    this.#last = undefined;
    if (this.#counts) {
      this.#counts.lost += 1;
    }
    this.#tell('bad', text);
  }

  #forget() {
    clearTimeout(this.#timer);
    this.#counts = undefined;
    this.#awaySince = undefined;
  }
}
