// Streams with a message every 100 ms, each at another moment, behind Caddy. A message is the time when it was sent.

import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { writeFileSync } from 'node:fs';
import { createServer } from 'node:http';
import { join } from 'node:path';

const INTERVAL = 100; // milliseconds
const STREAMS = 7;

const server = createServer((request, response) => {
  const number = Number(request.url.split('/').pop());
  response.writeHead(200, { 'Content-Type': 'text/event-stream', 'Cache-Control': 'no-store' });
  response.write('\n');
  let timer = setTimeout(() => {
    timer = setInterval(() => response.write(`${Date.now()}\n`), INTERVAL);
  }, (number * INTERVAL) / STREAMS);
  response.on('close', () => clearTimeout(timer));
}).listen(0, '127.0.0.1');
await once(server, 'listening');

const folder = process.env.FOLDER;
writeFileSync(join(folder, 'Caddyfile'), `{
	admin off
	auto_https disable_redirects
	skip_install_trust
}
localhost:9443 {
	tls ${join(folder, 'certificate.pem')} ${join(folder, 'key.pem')}
	handle / {
		header Content-Type text/html
		respond "<!doctype html>"
	}
	reverse_proxy 127.0.0.1:${server.address().port}
}
`);
const env = { ...process.env, HOME: folder, XDG_DATA_HOME: folder, XDG_CONFIG_HOME: folder };
const caddy = spawn(process.env.CADDY, ['run', '--adapter', 'caddyfile', '--config', join(folder, 'Caddyfile')],
  { env, stdio: 'ignore' });
process.once('SIGTERM', () => {
  caddy.kill();
  process.exit();
});
