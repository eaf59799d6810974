// nginx, haproxy and Caddy with the configurations of this folder, on free ports and with a certificate of the test.

import assert from 'node:assert/strict';
import { execFileSync, spawn } from 'node:child_process';
import { createHash, X509Certificate } from 'node:crypto';
import { once } from 'node:events';
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:http';
import { connect } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Server, freePort, until, within } from '../interop/server.mjs';

const CERTIFICATE = '/etc/ssl/private/chat.example.pem'; // in the configurations

const folder = mkdtempSync(join(tmpdir(), 'overwire-proxies-'));
process.once('exit', () => rmSync(folder, { recursive: true, force: true }));

/** The certificate of localhost, with its key: the proxies read one file. */
export const pem = join(folder, 'localhost.pem');

/** Makes the certificate. Returns the hash of its key, by which Chromium knows which certificate to accept. */
function certify() {
  execFileSync('openssl', ['req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes',
    '-days', '2', '-subj', '/CN=localhost', '-addext', 'subjectAltName=DNS:localhost', '-keyout', pem, '-out', `${pem}.certificate`],
  { stdio: 'ignore' });
  const certificate = readFileSync(`${pem}.certificate`);
  writeFileSync(pem, certificate, { flag: 'a' });
  const key = new X509Certificate(certificate).publicKey.export({ type: 'spki', format: 'der' });
  return createHash('sha256').update(key).digest('base64');
}

/** A configuration of this folder, with other words in place of some. Each of them has to be there. */
function configure(file, words) {
  let text = readFileSync(new URL(file, import.meta.url), 'utf8');
  for (const [word, other] of words) {
    assert.ok(text.includes(word), `${file} has no ${word}`);
    text = text.replaceAll(word, other);
  }
  return text;
}

class Proxy {
  /** `command` has to stay in the foreground, and to listen on all `ports`. */
  constructor(command, args, ports) {
    Object.assign(this, { command, args, ports, port: ports[0] });
    process.on('exit', () => this.child?.kill('SIGKILL'));
  }

  async start() {
    let said = '';
    const env = { ...process.env, HOME: folder, XDG_DATA_HOME: folder, XDG_CONFIG_HOME: folder };
    this.child = spawn(this.command, this.args, { cwd: folder, env, stdio: ['ignore', 'ignore', 'pipe'] });
    this.child.stderr.on('data', (data) => { said += data; });
    this.ended = once(this.child, 'exit');
    for (const port of this.ports) {
      await until(() => this.child.exitCode === null ? listens(port) : assert.fail(said), () => (
        `${this.command} to listen: ${said}`));
    }
  }

  /** Ends it like a restart of the service. */
  async stop() {
    this.child.kill('SIGTERM');
    await within(this.ended, `${this.command} to end`);
  }
}

async function listens(port) {
  const socket = connect(port, '127.0.0.1');
  const listening = await new Promise((resolve) => {
    socket.once('connect', () => resolve(true)).once('error', () => resolve(false));
  });
  socket.destroy();
  return listening;
}

/**
 * nginx with the good configuration on its first port, the naive one on the second, and the one with a log-in on the
 * third, before the server `named`.
 */
async function nginx(server, named, logIn) {
  const [port, naivePort, logInPort] = [await freePort(), await freePort(), await freePort()];
  const words = (own, { port: behind } = server) => [['listen 443', `listen 127.0.0.1:${own}`], [CERTIFICATE, pem],
    ['chat.example;', 'localhost;'], ['127.0.0.1:8000', `127.0.0.1:${behind}`]];
  const place = join(folder, 'nginx');
  mkdirSync(place);
  writeFileSync(join(place, 'good.conf'), configure('nginx.conf', words(port)));
  writeFileSync(join(place, 'naive.conf'), configure('nginx-naive.conf', words(naivePort)));
  const logInWords = [...words(logInPort, named), ['127.0.0.1:4180', `127.0.0.1:${logIn.port}`]];
  writeFileSync(join(place, 'log-in.conf'), configure('nginx-auth-request.conf', logInWords));
  const temporary = ['client_body', 'proxy', 'fastcgi', 'uwsgi', 'scgi'].map((one) => `${one}_temp_path ${one};`);
  writeFileSync(join(place, 'nginx.conf'), `daemon off; master_process off; pid nginx.pid;
events {}
http { access_log off; ${temporary.join(' ')} include good.conf; include naive.conf; include log-in.conf; }
`);
  return new Proxy('nginx', ['-p', place, '-c', 'nginx.conf', '-e', 'stderr'], [port, naivePort, logInPort]);
}

/** haproxy with `file`. */
async function haproxy(server, file = 'haproxy.cfg') {
  const port = await freePort();
  writeFileSync(join(folder, file), configure(file, [['bind :443', `bind 127.0.0.1:${port}`], [CERTIFICATE, pem],
    ['127.0.0.1:8000', `127.0.0.1:${server.port}`]]));
  return new Proxy('haproxy', ['-f', file], [port]);
}

/** Caddy, without its interface for administration and its redirections on port 80. */
async function caddy(server) {
  const port = await freePort();
  writeFileSync(join(folder, 'Caddyfile'), configure('Caddyfile', [['\n{\n', `
{
	admin off
	auto_https disable_redirects
	skip_install_trust
	default_bind 127.0.0.1
`], ['chat.example {', `localhost:${port} {`], [CERTIFICATE, pem], ['127.0.0.1:8000', `127.0.0.1:${server.port}`]]));
  const args = ['run', '--adapter', 'caddyfile', '--config', 'Caddyfile'];
  return new Proxy(process.env.CADDY ?? 'caddy', args, [port]);
}

/** Starts a server, with its log in `log`. */
async function serve(...options) {
  const server = await Server.start(0, undefined, ['--no-tap', '--log', '--trust-proxy', '127.0.0.1', ...options]);
  server.log = '';
  server.child.stdout.on('data', (data) => { server.log += data; });
  return server;
}

/** A service that knows users, as oauth2-proxy does. The cookie `user` is enough here. `asked` has the questions. */
async function startLogIn() {
  const asked = [];
  const service = createServer(({ method, url, headers }, response) => {
    asked.push({ method, url, headers });
    const user = /user=(\w+)/.exec(headers.cookie ?? '')?.[1];
    response.writeHead(user ? 202 : 401, user ? { 'X-Auth-Request-User': user } : {}).end();
  });
  await once(service.listen(0, '127.0.0.1').unref(), 'listening');
  return { port: service.address().port, asked };
}

/** Starts all proxies before a server, and haproxy with the PROXY protocol before another one, which is `announced`. */
export async function start() {
  const hash = certify();
  const [server, announced] = [await serve(), await serve('--proxy-protocol')];
  const [named, logIn] = [await serve('--identity-header', 'Remote-User'), await startLogIn()];
  const set = {
    nginx: await nginx(server, named, logIn), haproxy: await haproxy(server), caddy: await caddy(server),
    announcer: await haproxy(announced, 'haproxy-proxy-protocol.cfg'),
  };
  const proxies = Object.values(set);
  const startAll = () => Promise.all(proxies.map((proxy) => proxy.start()));
  const stopAll = () => Promise.all(proxies.map((proxy) => proxy.stop()));
  await startAll();
  return { ...set, hash, server, announced, named, logIn, startAll, stopAll };
}
