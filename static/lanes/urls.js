// The addresses of the server. A path such as `/api/poll` is relative to where these modules are from, so they work
// below a prefix that a proxy adds, and in the page of another server.

const TAP = '-/tap/static/'; // where `wire tap` serves these modules

const modules = new URL('..', import.meta.url).href;
const server = modules.endsWith(TAP) ? modules.slice(0, -TAP.length) : modules;

/** The URL of a path of the server. */
export const urlOf = (path) => server + path.slice(1);

/** The same for a WebSocket: some browsers do not take a path or a scheme of HTTP there. */
export const socketUrl = (path) => urlOf(path).replace(/^http/, 'ws');
