// What the fields of the wire are called, which kind of bytes they are, and where they are defined.

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

/** Where a section stands: 'RFC 9112, section 7.1' is a part of rfc9112. Undefined for what nothing defines. */
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

export const KINDS = { headers: 'headers', framing: 'framing', payload: 'payload', keepalive: 'keep-alive' };

const KIND_OF_PIECE = {
  'empty line': 'headers',
  'request line': 'headers',
  'status line': 'headers',
  'field line': 'headers',
  'end of head': 'headers',
  'trailer field': 'headers',
  'chunk-size': 'framing',
  'end of chunk': 'framing',
  'last-chunk': 'framing',
  'end of chunks': 'framing',
  'end of message': 'framing',
  'frame header': 'framing',
  broken: 'problem',
};

const KIND_OF_LINE = { comment: 'keepalive', 'empty line': 'keepalive', 'too long': 'problem' };

const PING = 9;
const PONG = 10;

export const OPCODES = { 0: 'continuation', 1: 'text', 2: 'binary', 8: 'Close', 9: 'Ping', 10: 'Pong' };

/** The kind of a piece: headers, framing, payload, keepalive or problem. */
export function kindOfPiece({ name, opcode }) {
  return opcode === PING || opcode === PONG ? 'keepalive' : KIND_OF_PIECE[name] ?? 'payload';
}

/** The kind of a line inside of content. */
export const kindOfLine = ({ name }) => KIND_OF_LINE[name] ?? 'payload';

/** What a fault that took effect did. */
export const FAULTS = {
  drop: 'The server closed the connection, as it was told to.',
  cut: 'The server cut the connection in the middle of the bytes, as it was told to.',
  restart: 'The server forgot rooms, mailboxes and clients, and closed every connection, as it was told to.',
  'half-open': 'The server says nothing more on this connection and never closes it, as it was told to.',
};
