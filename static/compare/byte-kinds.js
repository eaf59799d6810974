// Says of each byte on the wire what it is for: payload, framing, headers or keep-alive. No DOM.
//
// Whether a chunk-size is framing or keep-alive stands behind it, in the chunk. So what belongs together is kept as
// numbers until it is complete, and only the front of a text, which tells whether it is a heartbeat, as bytes.

export const KINDS = ['payload', 'framing', 'headers', 'keepalive'];

const LONGEST_HEARTBEAT = 512; // bytes; what is longer is a message
const HEADERS = ['request line', 'status line', 'field line', 'end of head', 'trailer field', 'empty line'];
const CHUNK_FRAMING = ['chunk-size', 'end of chunk', 'last-chunk', 'end of chunks'];
const TEXT = 1;
const CLOSE = 8;

/** One direction of one exchange. `count(kind, bytes)` is called when it is known what bytes are. */
export class ByteKinds {
  #count;
  #mayBeEmpty; // only an answer is an empty answer
  #around = 0; // bytes of chunk framing that wait for their chunk
  #inside = { payload: 0, framing: 0, keepalive: 0 }; // of the content that they are around
  #inChunk = false;
  #event = newEvent();
  #line = newText(); // the front of a line that goes on in the next chunk
  #content = newText(); // content that is no lines
  #frame = undefined; // a text frame that may be a heartbeat

  constructor(from, count) {
    this.#count = count;
    this.#mayBeEmpty = from === 'server';
  }

  /** `bytes` is a string with one character for each byte. */
  take(piece, bytes) {
    const { name } = piece;
    if (HEADERS.includes(name)) {
      this.#count('headers', bytes.length);
    } else if (CHUNK_FRAMING.includes(name)) {
      this.#around += bytes.length;
      this.#inChunk = name === 'chunk-size';
    } else if (name === 'frame header') {
      this.#frameHeader(piece, bytes);
    } else if (name === 'payload') {
      this.#framePayload(piece, bytes);
    } else if (piece.lines) {
      piece.lines.forEach((line) => this.#takeLine(line.name, atob(line.bytes)));
    } else if (name === 'content' || name === 'chunk-data') {
      this.#takeContent(bytes);
    } else if (name === 'end of message') {
      this.#endContent();
    } else {
      this.#count('framing', bytes.length); // of nothing that is known
    }
    if (!this.#inChunk && this.#isWhole()) {
      this.#settle();
    }
  }

  /** The exchange is over, perhaps in the middle of something: that is counted as what it was going to be. */
  end() {
    this.#inChunk = false;
    if (this.#line.length > 0) {
      this.#takeLine(/^data:/.test(this.#line.front) ? 'data field' : 'unknown field', '');
    }
    this.#endEvent(0);
    this.#endContent();
    if (this.#frame) {
      this.#endFrame('payload', 'framing');
    }
    this.#settle();
  }

  #isWhole() {
    return this.#event.framing + this.#event.payload + this.#line.length + this.#content.length === 0;
  }

  #settle() {
    this.#inside.keepalive += this.#event.comments;
    this.#event.comments = 0;
    const { payload, framing, keepalive } = this.#inside;
    this.#count('payload', payload);
    this.#count('keepalive', keepalive);
    this.#count('framing', framing);
    this.#count(keepalive > 0 && payload + framing === 0 ? 'keepalive' : 'framing', this.#around);
    this.#around = 0;
    this.#inside = { payload: 0, framing: 0, keepalive: 0 };
  }

  // Content that is no lines: JSON of known length.

  #takeContent(bytes) {
    if (this.#mayBeEmpty && this.#content.length + bytes.length <= LONGEST_HEARTBEAT) {
      add(this.#content, bytes);
    } else {
      this.#mayBeEmpty = false;
      this.#inside.payload += this.#content.length + bytes.length;
      this.#content = newText();
    }
  }

  #endContent() {
    this.#inside[isEmptyAnswer(this.#content.front) ? 'keepalive' : 'payload'] += this.#content.length;
    this.#content = newText();
  }

  // Lines: an event stream or lines of JSON.

  #takeLine(name, bytes) {
    add(this.#line, bytes);
    if (name === 'part of line') {
      return;
    }
    const { front, length } = this.#line;
    const end = /\r?\n$|\r$/.exec(bytes)?.[0].length ?? 0;
    this.#line = newText();
    if (name === 'JSON line') {
      this.#inside.payload += length - end;
      this.#inside.framing += end;
    } else if (name === 'empty line') {
      this.#inside.keepalive += length;
    } else if (name === 'comment') {
      this.#event.comments += length;
    } else if (name === 'end of event') {
      this.#endEvent(length);
    } else if (name === 'too long' || name === 'line end') {
      this.#inside[name === 'too long' ? 'payload' : 'framing'] += length;
    } else {
      this.#takeField(name, front, length, end);
    }
  }

  #takeField(name, front, length, end) {
    const before = /^[^:\r\n]*:? ?/.exec(front)[0].length;
    if (name === 'data field') {
      this.#event.payload += length - before - end;
      this.#event.framing += before + end;
      add(this.#event.data, front.slice(before));
    } else {
      this.#event.framing += length;
      if (name === 'event field') {
        this.#event.name = front.slice(before, length - end);
      }
    }
  }

  /** The empty line behind nothing but comments belongs to them. */
  #endEvent(length) {
    const { name, data, payload, framing, comments } = this.#event;
    this.#event = newEvent();
    this.#inside.keepalive += comments;
    const isKeepAlive = payload + framing === 0 ? comments > 0 : name === 'heartbeat' || isHeartbeat(data.front);
    if (isKeepAlive) {
      this.#inside.keepalive += payload + framing + length;
    } else {
      this.#inside.payload += payload;
      this.#inside.framing += framing + length;
    }
  }

  // Frames. A page sees no pings, so its heartbeats are texts.

  #frameHeader({ opcode }, bytes) {
    const { length, isWhole } = readHeader(bytes);
    if (opcode === TEXT && isWhole && length > 0 && length <= LONGEST_HEARTBEAT) {
      this.#frame = { header: bytes.length, length, text: newText() };
    } else {
      this.#count(opcode > CLOSE ? 'keepalive' : 'framing', bytes.length);
    }
  }

  #framePayload({ opcode, masking_key: key, offset = 0 }, bytes) {
    if (!this.#frame) {
      this.#count(opcode > CLOSE ? 'keepalive' : opcode === CLOSE ? 'framing' : 'payload', bytes.length);
      return;
    }
    const { text, length } = this.#frame;
    add(text, key ? unmasked(bytes, key, offset) : bytes);
    if (text.length >= length) {
      this.#endFrame(...isHeartbeat(text.front) ? ['keepalive', 'keepalive'] : ['payload', 'framing']);
    }
  }

  #endFrame(payload, header) {
    this.#count(header, this.#frame.header);
    this.#count(payload, this.#frame.text.length);
    this.#frame = undefined;
  }
}

const newText = () => ({ front: '', length: 0 });
const newEvent = () => ({ name: '', data: newText(), payload: 0, framing: 0, comments: 0 });

function add(text, bytes) {
  text.front += bytes.slice(0, LONGEST_HEARTBEAT + 64 - text.front.length); // with the field's name in front of it
  text.length += bytes.length;
}

function readHeader(bytes) {
  const at = (index) => bytes.charCodeAt(index);
  const short = at(1) & 0x7f;
  const length = short < 126 ? short : short === 126 ? at(2) * 256 + at(3) : Infinity;
  return { length, isWhole: (at(0) & 0x80) !== 0 };
}

function unmasked(bytes, key, offset) {
  const byte = (at) => bytes.charCodeAt(at) ^ parseInt(key.slice((offset + at) % 4 * 2, (offset + at) % 4 * 2 + 2), 16);
  return Array.from(bytes, (_, at) => String.fromCharCode(byte(at))).join('');
}

/** The object in a text, or nothing: most texts are other people's. */
function parsed(text) {
  try {
    return text.length > LONGEST_HEARTBEAT ? undefined : JSON.parse(text) ?? undefined;
  } catch {
    return undefined;
  }
}

const isHeartbeat = (text) => text.includes('heartbeat') && parsed(text)?.type === 'heartbeat';

function isEmptyAnswer(text) {
  const answer = text && parsed(text);
  return answer?.messages?.length === 0 || answer?.type === 'timeout';
}
