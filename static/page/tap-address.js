// Where the tap is. The server says the port of its tap; this page is seen either through the tap or on the server.

const DEFAULT_PORTS = { 'http:': 80, 'https:': 443 };

/** Whether this page is seen through the tap on `port`. */
export function isTap(port) {
  return port === (Number(location.port) || DEFAULT_PORTS[location.protocol]);
}

/**
 * The address of this page at the tap on `port`: in the same room and mode, with the same lanes, of which those in
 * `running` start at once.
 */
export function atTap(port, { all, running }) {
  const url = new URL(location);
  url.port = port;
  url.pathname = '/'; // the tap has no prefix
  url.searchParams.delete('start');
  if (running.length > 0) {
    url.searchParams.set('start', running.length === all.length ? '' : running.join());
  }
  return url;
}
