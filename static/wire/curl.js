// A request as a line for curl. No DOM.

import { contentOf, fieldOf, urlOf } from './exchanges.js';

const OF_CURL = ['host', 'content-length', 'transfer-encoding', 'connection', 'upgrade', 'accept-encoding'];
const quoted = (word) => /^[\w./:=@%+,-]+$/.test(word) ? word : `'${word.replaceAll("'", "'\\''")}'`;

/** The line that makes the request of an exchange again. Undefined if its beginning is not kept. */
export function curlOf({ request }) {
  if (request.line === undefined) {
    return undefined;
  }
  const [method] = request.line.split(' ');
  const words = ['curl'];
  if (fieldOf(request, 'upgrade')) {
    words.push('-vN', '--http1.1', '-H', 'Connection: Upgrade', '-H', `Upgrade: ${fieldOf(request, 'upgrade')}`);
  } else if (fieldOf(request, 'accept')?.startsWith('text/event-stream')) {
    words.push('-N');
  }
  const content = new TextDecoder().decode(contentOf(request));
  if (method === 'HEAD') {
    words.push('--head'); // -X HEAD waits for content
  } else if (method !== (content ? 'POST' : 'GET')) {
    words.push('-X', method);
  }
  for (const [name, value] of request.fields.filter(([one]) => !OF_CURL.includes(one.toLowerCase()))) {
    words.push('-H', `${name}: ${value}`);
  }
  if (content) {
    words.push('--data-raw', content);
  }
  const [url, target] = [urlOf(request), request.line.split(' ')[1]];
  if (/[[\]{}]/.test(url)) {
    words.push('--globoff');
  }
  if (target === '*') {
    return [...words, '--request-target', target, url.slice(0, -1)].map(quoted).join(' ');
  }
  return [...words, url].map(quoted).join(' ');
}
