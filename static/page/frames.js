// Frames by hand: a popover of a lane on a WebSocket. It sends a binary message, and closes the socket with a code and
// a reason. A page has no way to send a Ping.

const element = (id) => document.getElementById(id);

export class Frames {
  #panel = undefined; // the panel that it was opened for

  constructor() {
    element('frames-binary').addEventListener('submit', (event) => {
      event.preventDefault();
      this.#act('The binary message', (lane) => lane.sendBinary(element('frames-text').value));
    });
    element('frames-close').addEventListener('submit', (event) => {
      event.preventDefault();
      const [code, reason] = [element('frames-code').valueAsNumber, element('frames-reason').value];
      this.#act(`Close with ${code}`, (lane) => lane.close(code, reason));
    });
  }

  open(panel) {
    this.#panel = panel;
    element('frames-says').textContent = '';
    element('frames').showPopover();
    element('frames-text').focus();
  }

  /** Says what came of it. */
  async #act(what, act) {
    let said = 'sent';
    try {
      await act(this.#panel.lane);
    } catch ({ message }) {
      said = message;
    }
    element('frames-says').textContent = `${what}: ${said}.`;
  }
}
