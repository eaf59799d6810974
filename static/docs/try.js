// Tries one operation: its form, the curl line that does the same, and the answer. The answer is shown as it arrives,
// so held polls and streams only need a button that ends them.

import { socketUrl, urlOf } from '../lanes/urls.js';

const SHOWN = 20_000; // characters of the output that are kept
const SOON = 16; // milliseconds from the arrival of bytes to their output
const CONNECTION = /"connection_id":\s*"([0-9a-f-]{36})"/;

/** The forms whose content names a mailbox: they take the mailbox that was opened last. */
const followers = new Set();

/** A word of a shell's command line. */
const quoted = (text) => /^[\w@%+=:,./-]+$/.test(text) ? text : `'${text.replaceAll("'", "'\\''")}'`;

/** The first value of a parameter's field: its default, or its example if the parameter is required. */
function prefilled({ required, example, schema }) {
  return String((required ? example : schema.default) ?? '');
}

export class Attempt {
  #operation;
  #el;
  #fields = new Map();
  #content;
  #curl;
  #status;
  #output;
  #shown = '';
  #leftOut = 0;
  #pending = ''; // has arrived, and is printed soon
  #timer = undefined;
  #stop = null;
  #buttons = {};
  #said;

  constructor(operation, { el, examples, reading, said }) {
    this.#operation = operation;
    this.#el = el;
    this.#curl = el('code');
    const copy = el('button', { type: 'button', 'aria-label': `Copy the curl line of ${this.#name}` }, 'Copy');
    copy.addEventListener('click', () => this.#copy(copy));
    const line = el('div', { class: 'curl' }, el('pre', {}, this.#curl), copy);
    const fields = [...this.#parameterFields(), ...this.#contentField(examples)];
    this.element = reading ? line : el('div', { class: 'try' }, this.#form(fields, said), line, ...this.#result());
    this.#showCurl();
  }

  get #name() {
    return `${this.#operation.method} ${this.#operation.path}`;
  }

  // The form.

  #labelled(text, field) {
    field.addEventListener('input', () => this.#showCurl());
    return this.#el('label', {}, this.#el('span', {}, text), field);
  }

  #parameterFields() {
    // A page cannot set the header fields of a WebSocket handshake.
    const settable = this.#operation.parameters.filter(({ in: where }) => where !== 'header' || !this.#operation.isWebSocket);
    return settable.map((parameter) => {
      const { name, required, example, schema } = parameter;
      const isNumber = schema.type === 'integer';
      const field = this.#el('input', {
        name, required, value: prefilled(parameter), placeholder: `for example ${example}`, autocomplete: 'off', spellcheck: 'false',
        inputmode: isNumber ? 'numeric' : undefined,
      });
      this.#fields.set(parameter, field);
      return this.#labelled(required ? `${name}, required` : name, field);
    });
  }

  #contentField(examples) {
    if (examples.length === 0) {
      return [];
    }
    const put = (value) => {
      this.#content.value = JSON.stringify(value, null, 2);
      this.#follow();
    };
    this.#content = this.#el('textarea', { name: 'content', rows: 5, spellcheck: 'false' });
    this.mailbox = examples.map(([, value]) => value.connection_id).find(Boolean);
    if (this.mailbox) {
      followers.add(this);
    }
    put(examples[0][1]);
    const labelled = this.#labelled('Content', this.#content);
    if (examples.length === 1) {
      return [labelled];
    }
    const choice = this.#el('select', { name: 'example' },
      examples.map(([name], at) => this.#el('option', { value: at }, name)));
    choice.addEventListener('change', () => {
      put(examples[choice.value][1]);
      this.#showCurl();
    });
    return [this.#labelled('Example', choice), labelled];
  }

  /** Replaces the example's mailbox by the mailbox that was opened last. */
  #follow() {
    if (this.mailbox && Attempt.mailbox) {
      this.#content.value = this.#content.value.replaceAll(this.mailbox, Attempt.mailbox);
    }
  }

  static #opened(mailbox) {
    if (mailbox === Attempt.mailbox) {
      return;
    }
    for (const follower of followers) {
      follower.#content.value = follower.#content.value.replaceAll(Attempt.mailbox ?? follower.mailbox, mailbox);
      follower.#showCurl();
    }
    Attempt.mailbox = mailbox;
  }

  #button(name, text, attributes = {}) {
    const button = this.#el('button', { type: 'button', 'data-action': name, 'aria-label': `${text}: ${this.#name}`, ...attributes }, text);
    this.#buttons[name] = button;
    return button;
  }

  #form(fields, said) {
    const { isWebSocket } = this.#operation;
    const start = this.#button('start', isWebSocket ? 'Open' : 'Send', { type: 'submit' });
    const stop = this.#button('stop', 'Stop', { disabled: true });
    stop.addEventListener('click', () => this.#stop?.());
    const form = this.#el('form', {}, fields, this.#el('div', { class: 'buttons' }, start, stop));
    form.addEventListener('submit', (event) => {
      event.preventDefault();
      if (this.#stop === null) {
        isWebSocket ? this.#open() : this.#fetch();
      }
    });
    if (!isWebSocket) {
      return form;
    }
    this.#said = this.#el('textarea', { name: 'message', rows: 4, spellcheck: 'false' });
    this.#said.value = JSON.stringify(said, null, 2);
    const box = this.#el('div', { class: 'say' },
      this.#labelled('Message', this.#said),
      this.#el('div', { class: 'buttons' }, this.#button('say', 'Send message', { disabled: true })));
    return this.#el('div', {}, form, box);
  }

  #result() {
    this.#status = this.#el('p', { class: 'result', role: 'status' });
    this.#output = this.#el('pre', { class: 'output', role: 'log', tabindex: 0, 'aria-label': `Output of ${this.#name}`, hidden: true });
    return [this.#status, this.#output];
  }

  // The request.

  /** The request that the form describes. */
  #request() {
    let { path } = this.#operation;
    const query = [];
    const headers = {};
    for (const [{ name, in: where }, { value }] of this.#fields) {
      if (where === 'path') {
        path = path.replace(`{${name}}`, encodeURIComponent(value));
      } else if (value !== '' && where === 'header') {
        headers[name] = value;
      } else if (value !== '') {
        query.push(`${name}=${encodeURIComponent(value)}`);
      }
    }
    return { target: query.length > 0 ? `${path}?${query.join('&')}` : path, headers, content: this.#content?.value };
  }

  #showCurl() {
    const { method, isWebSocket, isStream, parameters } = this.#operation;
    const { target, headers, content } = this.#request();
    const words = ['curl'];
    if (isWebSocket) {
      words.push('-vN', '--http1.1');
      for (const { name, in: where, example } of parameters) {
        where === 'header' && words.push('-H', `${name}: ${example}`);
      }
    } else if (isStream) {
      words.push('-N');
    }
    for (const [name, value] of Object.entries(headers)) {
      words.push('-H', `${name}: ${value}`);
    }
    if (content !== undefined) {
      words.push('-d', compact(content));
    } else if (method !== 'GET') {
      words.push('-X', method);
    }
    this.#curl.textContent = [...words, urlOf(target)].map(quoted).join(' ');
  }

  async #copy(button) {
    try {
      await navigator.clipboard.writeText(this.#curl.textContent);
      button.textContent = 'Copied';
    } catch { // a page of http at another host has no clipboard: the line is selected, for the reader to copy
      getSelection().selectAllChildren(this.#curl);
      button.textContent = 'Selected';
    }
    setTimeout(() => { button.textContent = 'Copy'; }, 2000);
  }

  #begin(stop) {
    this.#stop = stop;
    this.#shown = '';
    this.#leftOut = 0;
    this.#output.textContent = '';
    this.#output.hidden = false;
    this.#enable('stop', 'start');
  }

  /** Enables one button and disables the other, which hands its focus over. */
  #enable(name, other) {
    const isHere = document.activeElement === this.#buttons[other];
    this.#buttons[name].disabled = false;
    if (isHere) {
      this.#buttons[name].focus();
    }
    this.#buttons[other].disabled = true;
  }

  #end(state, text) {
    this.#stop = null;
    this.#enable('start', 'stop');
    this.#say(state, text);
  }

  #say(state, text) {
    this.#status.dataset.state = state;
    this.#status.textContent = text;
  }

  async #fetch() {
    const { method } = this.#operation;
    const { target, headers, content } = this.#request();
    const controller = new AbortController();
    let summary = 'stopped';
    this.#begin(() => controller.abort());
    this.#say('waiting', 'Waiting for the answer');
    const start = performance.now();
    try {
      const response = await fetch(urlOf(target), { method, headers, body: content, cache: 'no-store', signal: controller.signal });
      summary = `${response.status} ${response.statusText}, ${response.headers.get('Content-Type')}`;
      this.#say(response.ok ? 'open' : 'problem', summary);
      const bytes = await this.#read(response);
      const took = Math.round(performance.now() - start);
      this.#flush();
      this.#tidy(response);
      this.#end(response.ok ? 'open' : 'problem', `${summary}, ${bytes} bytes in ${took} ms`);
    } catch (error) {
      this.#flush();
      const stopped = controller.signal.aborted;
      this.#end(stopped ? 'stopped' : 'problem', stopped ? `Stopped: ${summary}` : `Failed: ${error.message}`);
    }
  }

  async #read(response) {
    const decoder = new TextDecoder();
    let bytes = 0;
    for (const reader = response.body.getReader(); ;) {
      const { done, value } = await reader.read();
      if (done) {
        return bytes;
      }
      bytes += value.length;
      this.#printSoon(decoder.decode(value, { stream: true }));
    }
  }

  /** What is printed is laid out, which takes longer than most answers, and must not count among their time. */
  #printSoon(text) {
    this.#pending += text;
    this.#timer ??= setTimeout(() => this.#flush(), SOON);
  }

  #flush() {
    clearTimeout(this.#timer);
    this.#timer = undefined;
    const text = this.#pending;
    this.#pending = '';
    text !== '' && this.#print(text);
  }

  /** Breaks the JSON of a whole answer into lines. */
  #tidy(response) {
    if (this.#leftOut > 0 || !response.headers.get('Content-Type')?.startsWith('application/json')) {
      return;
    }
    try {
      const text = JSON.stringify(JSON.parse(this.#shown), null, 2);
      this.#shown = '';
      this.#print(text);
    } catch { /* it stays as it arrived */ }
  }

  /** Appends to the output. Only the newest characters are kept; a line says how many are not. */
  #print(text) {
    const mailbox = CONNECTION.exec(text)?.[1];
    if (mailbox) {
      Attempt.#opened(mailbox);
    }
    const all = this.#shown + text;
    this.#leftOut += Math.max(0, all.length - SHOWN);
    this.#shown = all.slice(-SHOWN);
    const notice = this.#leftOut > 0 ? `(${this.#leftOut} characters before this are left out)\n` : '';
    const follows = this.#output.scrollHeight - this.#output.scrollTop - this.#output.clientHeight < 40;
    this.#output.textContent = notice + this.#shown;
    if (follows && this.#stop) {
      this.#output.scrollTop = this.#output.scrollHeight;
    }
  }

  #open() {
    const { target } = this.#request();
    const socket = new WebSocket(socketUrl(target));
    const { say } = this.#buttons;
    this.#begin(() => socket.close(1000));
    this.#say('waiting', 'Opening');
    say.onclick = () => {
      const text = compact(this.#said.value);
      socket.send(text);
      this.#print(`> ${text}\n`);
    };
    socket.onopen = () => {
      say.disabled = false;
      this.#say('open', 'Open');
    };
    socket.onmessage = ({ data }) => this.#print(`< ${data}\n`);
    socket.onclose = ({ code, reason }) => {
      say.disabled = true;
      this.#end(code === 1000 ? 'stopped' : 'problem', `Closed: ${code}${reason ? ` ${reason}` : ''}`);
    };
  }
}

/** JSON on one line. Other text stays as it is. */
function compact(text) {
  try {
    return JSON.stringify(JSON.parse(text));
  } catch {
    return text;
  }
}
