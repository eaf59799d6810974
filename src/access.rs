//! The checks of a request's origin: the name in Host, and the page in Origin and Fetch Metadata.
//!
//! A browser sends requests to this server on behalf of every page that it shows. `Host` exposes a foreign name that
//! resolves to this machine (DNS rebinding). `Origin` and `Sec-Fetch-Site` expose a foreign page.

use std::net::{IpAddr, SocketAddr};

use crate::http::{Method, Origins, Request, Response, host_name, is_origin_of};
use crate::proxies::Client;

/// The request fields that a page of an allowed origin may set, in addition to those that need no permission (WHATWG
/// Fetch, "CORS-safelisted request-header").
const ALLOWED_FIELDS: &str = "Authorization, Cache-Control, Content-Type, Last-Event-ID, Pragma, X-Requested-With";

/// The names and origins that a server accepts.
#[derive(Debug)]
pub struct Access {
    bound: IpAddr,
    hosts: Vec<String>,
    origins: Origins,
}

/// The kind of the resource that a request names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Resource {
    /// A page or another file. Links of foreign pages may lead to it.
    File,
    /// A part of the API. A request may change something: a GET can move a client's position.
    Api,
}

/// A refused request: the status code and the sentence of the answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// 421 for a foreign Host, 403 for a foreign page.
    pub status: u16,
    /// The field, its value, and the expected values.
    pub sentence: String,
}

impl Refusal {
    /// Returns the answer to the refused request.
    pub fn response(&self) -> Response {
        Response::error(self.status, &self.sentence)
    }
}

impl Access {
    /// Creates the rules of a server that listens on `bound`. `hosts` are names and addresses of the server in addition
    /// to `bound` and those of the loopback interface. `origins` are the foreign origins whose pages may use it.
    pub fn new(bound: SocketAddr, hosts: Vec<String>, origins: Origins) -> Self {
        Access { bound: bound.ip(), hosts, origins }
    }

    /// Decides whether the request of `client` may be answered. A host that a trusted proxy names takes the place of
    /// the request's.
    ///
    /// # Errors
    /// 421 for a foreign Host. 403 for a foreign Origin if the request changes something or opens a WebSocket: the
    /// same-origin policy of browsers does not cover those. 403 if Fetch Metadata says that a foreign page sent the
    /// request, unless it is a navigation to a file.
    pub fn check(&self, request: &Request, client: &Client, resource: Resource) -> Result<(), Refusal> {
        let host = client.host.as_deref().or(request.host());
        if let Some(name) = host.map(host_name)
            && !self.knows_host(name)
        {
            return Err(refuse_host(name));
        }
        let Some(origin) = request.field("origin") else { return refuse_foreign_fetch(request, resource) };
        let is_own = host.is_some_and(|host| is_origin_of(origin, host, client.is_secure));
        if self.origins.contains(origin) || is_own {
            return Ok(());
        }
        if matches!(request.method(), Method::Get | Method::Head) && request.field("upgrade").is_none() {
            return refuse_foreign_fetch(request, resource);
        }
        let origin = String::from_utf8_lossy(origin);
        let sentence = format!(
            "Origin: {origin:?} is foreign; expected this server's own pages, or an origin given with --allow-origin"
        );
        Err(Refusal { status: 403, sentence })
    }

    /// Decides whether a request may be answered at another address of the server than the one that it is bound to. Any
    /// address may be in Host: DNS rebinding needs a name.
    ///
    /// # Errors
    /// 421 for a foreign name in Host.
    pub fn check_name(&self, request: &Request) -> Result<(), Refusal> {
        match request.host_name() {
            Some(name) if address(name).is_none() && !self.knows_host(name) => Err(refuse_host(name)),
            _ => Ok(()),
        }
    }

    fn knows_host(&self, name: &str) -> bool {
        match address(name) {
            _ if is_loopback_name(name) => true,
            // A server on the unspecified address (0.0.0.0) has every address of the machine. DNS rebinding needs a
            // name, so a foreign address is harmless.
            Some(own) if own == self.bound || self.bound.is_unspecified() => true,
            Some(other) => self.hosts.iter().any(|host| address(host) == Some(other)),
            None => self.hosts.iter().any(|host| host.eq_ignore_ascii_case(name)),
        }
    }

    /// Returns the answer to a preflight request. `methods` are the methods of the path. The fields are those that
    /// clients over `fetch` set.
    pub fn preflight(methods: &str) -> Response {
        Response::new(204)
            .with_field("Allow", methods)
            .with_field("Access-Control-Allow-Methods", methods)
            .with_field("Access-Control-Allow-Headers", ALLOWED_FIELDS)
            .with_field("Access-Control-Max-Age", "600")
    }
}

fn refuse_host(name: &str) -> Refusal {
    let sentence = format!(
        "Host: {name:?} is not a name of this server; expected its address, localhost, or a name given with --allow-host"
    );
    Refusal { status: 421, sentence }
}

/// Whether the name in Host, without its port, is `localhost` or an address of the loopback interface.
pub fn is_loopback_name(name: &str) -> bool {
    address(name).map_or(name.eq_ignore_ascii_case("localhost"), |address| address.is_loopback())
}

/// Reads an address in Host, where one of IPv6 is in brackets.
fn address(name: &str) -> Option<IpAddr> {
    name.trim_start_matches('[').trim_end_matches(']').parse().ok()
}

/// Refuses a request of a foreign page by its Fetch Metadata. A poll is a GET that changes a client's position, and a
/// browser that loads it as an image or in a frame sends no Origin. To load a frame is to navigate, as to follow a link
/// is, so a navigation reaches files only.
fn refuse_foreign_fetch(request: &Request, resource: Resource) -> Result<(), Refusal> {
    let is_foreign = matches!(request.field("sec-fetch-site"), Some(b"cross-site" | b"same-site"));
    let is_navigation = request.field("sec-fetch-mode") == Some(b"navigate");
    let sentence = match (is_foreign, is_navigation, resource) {
        (false, ..) | (true, true, Resource::File) => return Ok(()),
        (true, true, Resource::Api) => {
            "Sec-Fetch-Site says that a link or a frame of a foreign page led here; expected links to pages and files \
             only, such as /docs"
        }
        (true, false, _) => {
            "Sec-Fetch-Site says that a foreign page sent this; expected an origin given with --allow-origin"
        }
    };
    Err(Refusal { status: 403, sentence: sentence.into() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bytes::Parse;
    use crate::http::parse_request_head;

    fn request(method: &str, fields: &str) -> Request {
        let bytes = format!("{method} / HTTP/1.1\r\n{fields}\r\n").into_bytes();
        let Ok(Parse::Complete { value: head, used }) = parse_request_head(&bytes, 8192, 8192) else {
            panic!("{fields}")
        };
        Request::new(head, bytes, used)
    }

    fn status_of(method: &str, fields: &str) -> Result<(), u16> {
        status_for(Resource::Api, method, fields)
    }

    fn status_for(resource: Resource, method: &str, fields: &str) -> Result<(), u16> {
        status_of_client(&Client::default(), resource, method, fields)
    }

    fn status_of_client(client: &Client, resource: Resource, method: &str, fields: &str) -> Result<(), u16> {
        let bound = "192.0.2.1:8000".parse().unwrap();
        let hosts = ["chat.example", "10.0.0.1", "[2001:db8::1]"].map(String::from).into();
        let access = Access::new(bound, hosts, Origins::new(["https://friend.example:443"]).unwrap());
        access.check(&request(method, fields), client, resource).map_err(|refusal| refusal.status)
    }

    #[test]
    fn a_foreign_host_is_refused() {
        for host in
            ["192.0.2.1", "localhost", "127.0.0.9:1", "[::1]:8000", "Chat.Example:80", "10.0.0.1:1", "[2001:DB8::1]"]
        {
            assert_eq!(status_of("GET", &format!("Host: {host}\r\n")), Ok(()), "{host}");
        }
        for host in ["evil.example", "192.0.2.2", "sub.chat.example", "[2001:db8::2]"] {
            assert_eq!(status_of("GET", &format!("Host: {host}\r\n")), Err(421), "{host}");
        }
    }

    #[test]
    fn host_and_scheme_of_the_client_are_compared() {
        let client = |is_secure, host: Option<&str>| Client { is_secure, host: host.map(String::from), address: None };
        for (client, host, origin, status) in [
            (client(Some(true), None), "chat.example", "https://chat.example", Ok(())),
            (client(Some(true), None), "chat.example:443", "https://chat.example", Ok(())),
            (client(Some(true), None), "chat.example", "http://chat.example", Err(403)),
            (client(Some(false), None), "chat.example", "https://chat.example", Err(403)),
            (client(None, None), "chat.example", "https://chat.example", Ok(())),
            (client(None, Some("chat.example")), "backend:8000", "https://chat.example", Ok(())),
            (client(None, Some("chat.example:8443")), "localhost", "https://chat.example", Err(403)),
            (client(None, Some("evil.example")), "chat.example", "https://evil.example", Err(421)),
        ] {
            let fields = format!("Host: {host}\r\nOrigin: {origin}\r\n");
            assert_eq!(status_of_client(&client, Resource::Api, "POST", &fields), status, "{client:?} {fields}");
        }
    }

    #[test]
    fn foreign_pages_cannot_make_changes() {
        for (method, fields, status) in [
            ("POST", "Origin: http://chat.example\r\n", Ok(())),
            ("POST", "Origin: https://friend.example\r\n", Ok(())),
            ("POST", "Origin: http://evil.example\r\n", Err(403)),
            ("GET", "Origin: http://evil.example\r\n", Ok(())),
            ("GET", "Origin: http://evil.example\r\nUpgrade: websocket\r\n", Err(403)),
            ("GET", "Sec-Fetch-Site: cross-site\r\nSec-Fetch-Mode: no-cors\r\n", Err(403)),
            ("GET", "Sec-Fetch-Site: cross-site\r\nSec-Fetch-Mode: navigate\r\n", Err(403)),
            ("GET", "Sec-Fetch-Site: none\r\nSec-Fetch-Mode: navigate\r\n", Ok(())),
            ("GET", "Sec-Fetch-Site: same-origin\r\nSec-Fetch-Mode: cors\r\n", Ok(())),
        ] {
            assert_eq!(status_of(method, &format!("Host: chat.example\r\n{fields}")), status, "{method} {fields}");
        }
    }
    #[test]
    fn foreign_links_lead_to_files_alone() {
        for (mode, to_file, to_api) in [("navigate", Ok(()), Err(403)), ("no-cors", Err(403), Err(403))] {
            for site in ["cross-site", "same-site"] {
                let fields = format!("Host: chat.example\r\nSec-Fetch-Site: {site}\r\nSec-Fetch-Mode: {mode}\r\n");
                assert_eq!(status_for(Resource::File, "GET", &fields), to_file, "{site} {mode}");
                assert_eq!(status_for(Resource::Api, "GET", &fields), to_api, "{site} {mode}");
            }
        }
    }
}
