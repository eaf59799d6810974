/** The URL of a WebSocket at a path of this host. Some browsers do not take a path or a scheme of HTTP there. */
export function socketUrl(path) {
  const url = new URL(path, location.href);
  url.protocol = location.protocol === 'https:' ? 'wss:' : 'ws:';
  return url;
}
