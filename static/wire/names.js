// The names of kinds, opcodes and faults, and the addresses of the sections that the tap names.

const EVENT_STREAM = 'https://html.spec.whatwg.org/multipage/server-sent-events.html';
const EVENT_STREAM_SECTIONS = {
  '9.2': 'server-sent-events',
  '9.2.1': 'server-sent-events-intro',
  '9.2.2': 'the-eventsource-interface',
  '9.2.3': 'sse-processing-model',
  '9.2.4': 'the-last-event-id-header',
  '9.2.5': 'parsing-an-event-stream',
  '9.2.6': 'event-stream-interpretation',
};

const NDJSON = 'https://github.com/ndjson/ndjson-spec';
const NDJSON_SECTIONS = { '3.1': '31-serialization', '3.2': '32-parsing' };

/** The address of a section: 'RFC 9112, section 7.1' is in rfc9112. Undefined for a field that nothing defines. */
export function sectionUrl(section) {
  const [, standard, number] = /^(RFC \d+|WHATWG HTML|NDJSON), section ([\d.]+)$/.exec(section ?? '') ?? [];
  if (standard === undefined) {
    return undefined;
  }
  if (standard === 'WHATWG HTML') {
    return `${EVENT_STREAM}#${EVENT_STREAM_SECTIONS[number] ?? 'server-sent-events'}`;
  }
  if (standard === 'NDJSON') {
    return NDJSON_SECTIONS[number] ? `${NDJSON}#${NDJSON_SECTIONS[number]}` : NDJSON;
  }
  return `https://www.rfc-editor.org/rfc/rfc${standard.slice(4)}#section-${number}`;
}

/** The kinds of bytes. The tap has one more, `problem`. */
export const KINDS = ['header', 'framing', 'payload', 'keep-alive'];

export const OPCODES = { 0: 'continuation', 1: 'text', 2: 'binary', 8: 'Close', 9: 'Ping', 10: 'Pong' };

/** What a fault did when it took effect. */
export const FAULTS = {
  drop: 'The tap closed the connection, as commanded.',
  cut: 'The tap cut the connection in the middle of the bytes, as commanded.',
  'half-open': 'The tap passes nothing more on this connection and never closes it, as commanded.',
  down: 'The tap reset every connection and refuses new ones, as commanded.',
  up: 'The tap accepts connections again.',
};
