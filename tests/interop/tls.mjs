// `wire --via` through TLS, to Caddy before the server under test. `openssl s_client` checks Caddy's certificate.

import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Server, check, finish, freePort, until, within } from './server.mjs';

const folder = mkdtempSync(join(tmpdir(), 'overwire-caddy-'));
process.once('exit', () => rmSync(folder, { recursive: true, force: true }));
const authority = join(folder, 'caddy/pki/authorities/local/root.crt');

/** Caddy with a certificate authority of its own, before `server`. Returns its port. */
async function startCaddy(server) {
  const port = await freePort();
  const file = join(folder, 'Caddyfile');
  writeFileSync(file, `{
	admin off
	auto_https disable_redirects
	skip_install_trust
	default_bind 127.0.0.1
}
https://localhost:${port} {
	tls internal
	reverse_proxy 127.0.0.1:${server.port}
}
`);
  const caddy = spawn(process.env.CADDY, ['run', '--adapter', 'caddyfile', '--config', file], {
    env: { ...process.env, HOME: folder, XDG_DATA_HOME: folder, XDG_CONFIG_HOME: folder },
    stdio: ['ignore', 'ignore', 'pipe'],
  });
  let log = '';
  let hasEnded = false;
  caddy.stderr.on('data', (data) => (log += data));
  caddy.once('exit', () => (hasEnded = true));
  process.once('exit', () => caddy.kill('SIGKILL'));
  const isReady = () => hasEnded || (log.includes('serving initial configuration') && existsSync(authority)
    && log.includes('certificate obtained successfully'));
  await until(isReady, () => `Caddy: ${log}`);
  assert.ok(!hasEnded, log);
  return port;
}

/** Runs `wire`, types, and returns its exit code and its output. */
async function wire(args, typed = '') {
  const child = spawn(process.env.WIRE, args);
  process.once('exit', () => child.kill('SIGKILL'));
  const printed = { output: '', complaint: '' };
  child.stdout.on('data', (data) => (printed.output += data));
  child.stderr.on('data', (data) => (printed.complaint += data));
  child.stdin.end(typed);
  const [code] = await within(once(child, 'close'), 'wire');
  return { code, ...printed };
}

const server = await Server.start();
const port = await startCaddy(server);
const openssl = 'openssl s_client -quiet -servername %h -connect %h:%p -verify_return_error';
const via = ['--via', `${openssl} -CAfile ${authority}`];

await check('wire shows the frames of a WebSocket inside TLS', async () => {
  const url = `wss://localhost:${port}/api/ws`;
  const ended = await wire(['ws', url, '--frames', '--mask', '37fa213d', ...via], '/ping hello\n/wait\n');
  const rows = ended.output.split('\n').map((line) => line.slice(8).replace(/ +/g, ' '));
  assert.deepEqual(rows, [
    '> frame header 89 85 37 fa 21 3d FIN Ping, length 5, mask 37 fa 21 3d',
    '> payload 5f 9f 4d 51 58 hello',
    '< frame header 8a 05 FIN Pong, length 5',
    '< payload 68 65 6c 6c 6f hello',
    '> frame header 88 82 37 fa 21 3d FIN Close, length 2, mask 37 fa 21 3d',
    '> payload 34 12 1000',
    '< frame header 88 02 FIN Close, length 2',
    '< payload 03 e8 1000',
    '* the program of --via closed the connection',
    '',
  ], ended.complaint);
  assert.equal(ended.code, 0);
});

await check('wire reads events, lines and answers inside TLS', async () => {
  await server.post('/api/send', { sender: 'a', text: 'hello' });
  const everything = 'last_message_id=00000000-0000-8000-8000-000000000001';
  for (const [transport, path] of [['sse', 'events'], ['stream', `stream?${everything}`], ['poll', 'messages']]) {
    const ended = await wire([transport, `https://localhost:${port}/api/${path}`, '--count', '1', ...via]);
    assert.match(ended.output, /< status line {4}HTTP\/1\.1 200 OK/, ended.output + ended.complaint);
    assert.match(ended.output, /Server: Caddy/);
    assert.match(ended.output, /\* closing after 1 (message|answer)/);
    assert.equal(ended.code, 0);
  }
});

await check('wire fails with a certificate of an unknown authority', async () => {
  const ended = await wire(['ws', `wss://localhost:${port}/api/ws`, '--via', openssl]);
  assert.match(ended.complaint, /wire: the program of --via ended with exit code 1 before it answered/);
  assert.equal(ended.code, 1);
});

await server.stop();
finish();
