// Reads the streams of server.mjs in Chromium, and prints how long their messages took.

import { createHash, X509Certificate } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { chromium } from '../../browser/node_modules/playwright-core/index.mjs';
import { until } from '../../interop/server.mjs';

const ORIGIN = 'localhost:9443';
const LATE = 25; // milliseconds more than the fastest: nobody waits so long without a loss

/** The versions of HTTP, and the streams that a browser opens to one host. */
const VERSIONS = [
  { name: 'HTTP/1.1', streams: 6, flags: ['--disable-quic', '--disable-http2'] },
  { name: 'HTTP/2', streams: 7, flags: ['--disable-quic'] },
  { name: 'HTTP/3', streams: 7, flags: ['--enable-quic', `--origin-to-force-quic-on=${ORIGIN}`] },
];

const certificate = new X509Certificate(readFileSync(join(process.env.FOLDER, 'certificate.pem')));
const key = certificate.publicKey.export({ type: 'spki', format: 'der' });
const hash = createHash('sha256').update(key).digest('base64');

const launch = (flags) => chromium.launch({
  executablePath: process.env.CHROMIUM ?? '/usr/bin/chromium',
  args: ['--headless', '--no-sandbox', '--disable-gpu', '--no-first-run', '--disable-background-networking',
    '--disable-component-update', '--disable-sync', `--ignore-certificate-errors-spki-list=${hash}`,
    '--host-resolver-rules=MAP localhost 10.9.0.2', ...flags],
});

/** Reads the streams for some seconds. Returns the delays of all messages, and the protocol. Runs in the page. */
async function read({ streams, seconds }) {
  const [delays, controller] = [[], new AbortController()];
  const one = async (number) => {
    const { body } = await fetch(`/stream/${number}`, { signal: controller.signal });
    let rest = '';
    for await (const text of body.pipeThrough(new TextDecoderStream())) {
      const lines = (rest + text).split('\n');
      rest = lines.pop();
      lines.filter(Boolean).forEach((line) => delays.push(Date.now() - Number(line)));
    }
  };
  const all = Array.from({ length: streams }, (_, number) => one(number));
  await new Promise((resolve) => setTimeout(resolve, seconds * 1000));
  controller.abort();
  await Promise.allSettled(all);
  return { delays, protocol: performance.getEntriesByType('navigation')[0].nextHopProtocol };
}

console.log('              messages      late      mean       99 %     worst');
for (const { name, streams, flags } of VERSIONS) {
  const browser = await launch(flags);
  const page = await (await browser.newContext()).newPage();
  await until(() => page.goto(`https://${ORIGIN}/`).catch(() => false), 'Caddy to listen');
  const { delays, protocol } = await page.evaluate(read, { streams, seconds: Number(process.env.SECONDS_EACH) });
  delays.sort((one, other) => one - other);
  const late = delays.filter((delay) => delay > delays[0] + LATE).length / delays.length;
  const mean = delays.reduce((sum, delay) => sum + delay, 0) / delays.length;
  const columns = [`${(100 * late).toFixed(1)} %`, `${mean.toFixed(0)} ms`,
    `${delays[Math.floor(delays.length * 0.99)]} ms`, `${delays.at(-1)} ms`];
  console.log(`${name.padEnd(8)} ${protocol.padEnd(8)} ${String(delays.length).padStart(5)}`
    + columns.map((column) => column.padStart(10)).join(''));
  await browser.close();
}
