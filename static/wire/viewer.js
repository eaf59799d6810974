// The page of `wire tap`: the wire view and the faults, for every connection through the tap. It has no lanes: the
// requests come from any client, and all have the label `all`.

import { mountChaos } from '../chaos/chaos.js';
import { urlOf } from '../lanes/urls.js';
import { Tap } from '../tap.js';
import { mountWireView } from './wire-view.js';

const EVERY_CONNECTION = { label: 'all', title: 'Every connection' };

const element = (id) => document.getElementById(id);
const here = urlOf('/');

const tap = new Tap();
mountWireView(element('bytes'), { tap, lanes: [], hint: [`Send a request to ${here}, and its bytes appear here.`] });
mountChaos(element('chaos'), { tap, lanes: [EVERY_CONNECTION] });

tap.addEventListener('open', ({ detail: { target } }) => {
  element('target').textContent = target;
  document.title = `${target}, tapped`;
  element('state').textContent = 'open: every request is shown';
  element('state').dataset.state = 'open';
});
tap.addEventListener('lost', () => {
  element('state').textContent = 'closed: bytes are not shown until the tap is open again';
  element('state').dataset.state = 'lost';
});
tap.start();
