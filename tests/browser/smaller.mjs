// A picture for a document: a PNG with a palette. `painter` is any page of a browser, which decodes it.

import { crc32, deflateSync } from 'node:zlib';

const ALIKE = 75; // the square of the distance between two colours that look the same

/** The same picture in at most 256 distinct colours. Any other colour becomes the nearest of them. */
export async function smaller(painter, png) {
  const { width, height, rgba } = await painter.evaluate(async (url) => {
    const image = await createImageBitmap(await (await fetch(url)).blob());
    const canvas = new OffscreenCanvas(image.width, image.height).getContext('2d');
    canvas.drawImage(image, 0, 0);
    const { data } = canvas.getImageData(0, 0, image.width, image.height);
    const texts = [];
    for (let at = 0; at < data.length; at += 32_768) {
      texts.push(String.fromCharCode(...data.subarray(at, at + 32_768)));
    }
    return { width: image.width, height: image.height, rgba: btoa(texts.join('')) };
  }, `data:image/png;base64,${png.toString('base64')}`);
  const pixels = Buffer.from(rgba, 'base64');
  const counts = new Map();
  for (let at = 0; at < pixels.length; at += 4) {
    const colour = pixels.readUIntBE(at, 3);
    counts.set(colour, (counts.get(colour) ?? 0) + 1);
  }
  const parts = (colour) => [colour >> 16, colour >> 8 & 255, colour & 255];
  const distance = (one, other) => parts(one).reduce((sum, part, at) => sum + (part - parts(other)[at]) ** 2, 0);
  const palette = [];
  for (const [colour] of [...counts.entries()].sort(([, a], [, b]) => b - a)) {
    if (palette.length < 256 && palette.every((one) => distance(one, colour) > ALIKE)) {
      palette.push(colour);
    }
  }
  const nearest = (colour) => palette.reduce((best, one, at) => (
    distance(one, colour) < distance(palette[best], colour) ? at : best), 0);
  const index = new Map(palette.map((colour, at) => [colour, at]));
  [...counts.keys()].filter((colour) => !index.has(colour)).forEach((colour) => index.set(colour, nearest(colour)));
  const lines = Buffer.alloc((width + 1) * height); // each begins with its filter: none
  for (let at = 0; at < width * height; at += 1) {
    lines[at + 1 + Math.floor(at / width)] = index.get(pixels.readUIntBE(4 * at, 3));
  }
  const header = Buffer.from([0, 0, 0, 0, 0, 0, 0, 0, 8, 3, 0, 0, 0]); // 8 bits a pixel, by palette
  header.writeUInt32BE(width, 0);
  header.writeUInt32BE(height, 4);
  return Buffer.concat([png.subarray(0, 8), chunk('IHDR', header), chunk('PLTE', Buffer.from(palette.flatMap(parts))),
    chunk('IDAT', deflateSync(lines, { level: 9 })), chunk('IEND', Buffer.alloc(0))]);
}

function chunk(type, content) {
  const [length, check, named] = [Buffer.alloc(4), Buffer.alloc(4), Buffer.concat([Buffer.from(type), content])];
  length.writeUInt32BE(content.length);
  check.writeUInt32BE(crc32(named));
  return Buffer.concat([length, named, check]);
}
