// Bytes as text and as hex. Control characters, invisible characters, characters that change the direction of text, and
// bytes that are not UTF-8 are escaped, as the client `wire` escapes them.

export const ROW = 16; // bytes in a row of the text form

export function fromBase64(text) {
  return Uint8Array.from(atob(text), (character) => character.charCodeAt(0));
}

export function join(parts) {
  const whole = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
  let at = 0;
  for (const part of parts) {
    whole.set(part, at);
    at += part.length;
  }
  return whole;
}

export function fromHex(text) {
  return Uint8Array.from(text.match(/../g) ?? [], (pair) => parseInt(pair, 16));
}

export const hexByte = (byte) => byte.toString(16).padStart(2, '0');
export const hex = (bytes) => Array.from(bytes, hexByte).join(' ');
export const countOf = (number, what = 'byte') => `${number} ${what}${number === 1 || number === 1n ? '' : 's'}`;

/** RFC 6455, section 5.3: byte i is combined with byte i mod 4 of the key. `offset` bytes came before these. */
export function unmask(bytes, key, offset = 0) {
  return bytes.map((byte, at) => byte ^ key[(offset + at) % 4]);
}

/** The length of a character with this first byte, and the range of its second byte (RFC 3629, section 4). */
function shape(first) {
  if (first < 0x80) return [1];
  if (first >= 0xc2 && first <= 0xdf) return [2, 0x80, 0xbf];
  if (first >= 0xe0 && first <= 0xef) return [3, first === 0xe0 ? 0xa0 : 0x80, first === 0xed ? 0x9f : 0xbf];
  if (first >= 0xf0 && first <= 0xf4) return [4, first === 0xf0 ? 0x90 : 0x80, first === 0xf4 ? 0x8f : 0xbf];
  return [0];
}

/** The code point at `at` and its length in bytes. No code point if the bytes are not UTF-8. */
function characterAt(bytes, at) {
  const [length, low, high] = shape(bytes[at]);
  if (length === 1) {
    return { code: bytes[at], length };
  }
  let code = bytes[at] & (0xff >> (length + 1));
  for (let next = 1; next < length; next += 1) {
    const byte = bytes[at + next];
    if (!(byte >= (next === 1 ? low : 0x80) && byte <= (next === 1 ? high : 0xbf))) {
      return { length: 1 };
    }
    code = (code << 6) | (byte & 0x3f);
  }
  return length === 0 ? { length: 1 } : { code, length };
}

/** Neither a control character nor one of Unicode's format characters and line ends. */
function isHarmless(code) {
  const within = (first, last) => code >= first && code <= last;
  return !(code < 0x20 || within(0x7f, 0x9f) || [0xad, 0x61c, 0x180e, 0xfeff].includes(code) || within(0x200b, 0x200f)
    || within(0x2028, 0x202e) || within(0x2060, 0x206f) || within(0xfff9, 0xfffb) || within(0xe0000, 0xe0fff));
}

/** Whether a backslash before `at` looks like the beginning of an escape. */
function looksLikeEscape(bytes, at) {
  if (at >= bytes.length) {
    return false;
  }
  const { code } = characterAt(bytes, at);
  if (code === undefined || code === 0xfffd || 'rntx\\'.includes(String.fromCodePoint(code))) {
    return true;
  }
  return code === 0x75 ? bytes[at + 1] === 0x7b : !isHarmless(code);
}

const SHORT = { 13: '\\r', 10: '\\n', 9: '\\t' };

function shown(bytes, at, { code, length }) {
  if (code === undefined) {
    return `\\x${hexByte(bytes[at])}`;
  }
  if (code === 0x5c) {
    return looksLikeEscape(bytes, at + length) ? '\\\\' : '\\';
  }
  if (code < 0x20 || code === 0x7f) {
    return SHORT[code] ?? `\\x${hexByte(code)}`;
  }
  return isHarmless(code) ? String.fromCodePoint(code) : `\\u{${code.toString(16)}}`;
}

/** The bytes as runs of plain text and of escapes. */
export function runs(bytes) {
  const all = [];
  for (let at = 0; at < bytes.length;) {
    const character = characterAt(bytes, at);
    const text = shown(bytes, at, character);
    const escaped = text.length > 1 && text.startsWith('\\');
    if (all.at(-1)?.escaped === escaped) {
      all.at(-1).text += text;
    } else {
      all.push({ text, escaped });
    }
    at += character.length;
  }
  return all;
}

export const escape = (bytes) => runs(bytes).map(({ text }) => text).join('');

/** One text for each byte: a character at its first byte, a dot at each byte that cannot be shown. */
export function cells(bytes) {
  const all = [];
  for (let at = 0; at < bytes.length;) {
    const { code, length } = characterAt(bytes, at);
    all.push(code !== undefined && isHarmless(code) ? String.fromCodePoint(code) : '.');
    at += length;
    while (all.length < at) {
      all.push('');
    }
  }
  return all;
}

/** Whether the bytes begin, and whether they end, in the middle of a character. */
export function cutsCharacter(bytes) {
  const begins = bytes.length > 0 && (bytes[0] & 0xc0) === 0x80;
  let at = bytes.length - 1;
  while (at > bytes.length - 4 && at >= 0 && (bytes[at] & 0xc0) === 0x80) {
    at -= 1;
  }
  return { begins, ends: at >= 0 && shape(bytes[at])[0] > bytes.length - at };
}
