// Exchanges in the format HAR 1.2, which the developer tools of browsers and many other programs read. The frames of a
// WebSocket are where Chromium writes them. No DOM.

import { contentOf, fieldOf, urlOf } from './exchanges.js';

const pairs = (all) => Array.from(all, ([name, value]) => ({ name, value }));
const milliseconds = (from, to) => from === undefined || to === undefined ? -1 : Math.max(0, 1000 * (to - from));

/** Bytes as text, or in Base64 if they are not UTF-8. */
function asText(bytes) {
  try {
    return { text: new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(bytes) };
  } catch {
    return { text: btoa(Array.from(bytes, (byte) => String.fromCharCode(byte)).join('')), encoding: 'base64' };
  }
}

function requestOf(request) {
  const [method = '', , httpVersion = 'HTTP/1.1'] = request.line?.split(' ') ?? [];
  const url = urlOf(request);
  const content = contentOf(request);
  const mimeType = fieldOf(request, 'content-type') ?? '';
  return { method, url, httpVersion, cookies: [], headers: pairs(request.fields), headersSize: -1,
    queryString: pairs(new URLSearchParams(url.split('?').slice(1).join('?'))), bodySize: content.length,
    ...(content.length > 0 && { postData: { mimeType, text: asText(content).text } }) };
}

function responseOf(answer) {
  const [, httpVersion = 'HTTP/1.1', status = '0', statusText = ''] = /^(\S+) (\d+) ?(.*)$/.exec(answer.line ?? '') ?? [];
  const content = contentOf(answer);
  const mimeType = fieldOf(answer, 'content-type') ?? '';
  return { status: Number(status), statusText, httpVersion, cookies: [], headers: pairs(answer.fields), headersSize: -1,
    redirectURL: fieldOf(answer, 'location') ?? '', bodySize: content.length,
    content: { size: content.length, mimeType, ...asText(content) } };
}

function entryOf({ label, connection, begin, end, request, answer, frames }) {
  const messages = frames.map(({ time, isSent, opcode, bytes }) => (
    { type: isSent ? 'send' : 'receive', time, opcode, data: asText(bytes).text }));
  const timings = { send: milliseconds(request.time, request.last), wait: milliseconds(request.last, answer.time),
    receive: milliseconds(answer.time, answer.last) };
  return { startedDateTime: new Date(1000 * begin).toISOString(), time: milliseconds(begin, end),
    request: requestOf(request), response: responseOf(answer), cache: {}, timings, connection, comment: label,
    ...(messages.length > 0 && { _webSocketMessages: messages }) };
}

/** The text of a file. Exchanges whose request is not kept are left out: the format has no place for them. */
export function harOf(exchanges) {
  const entries = exchanges.filter(({ request }) => request.line !== undefined).map(entryOf);
  const log = { version: '1.2', creator: { name: 'overwire', version: '1' }, entries };
  return `${JSON.stringify({ log }, undefined, 2)}\n`;
}
