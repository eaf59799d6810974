//! Who may ask: the Host that a request names, and the Origin of the page that sent it.
//!
//! A browser sends requests to this server on behalf of any page that it shows. `Host` catches a
//! foreign name that was made to point here (DNS rebinding), `Origin` a foreign page.

use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;

use super::params::ApiError;
use crate::http::{Method, Request, Response};

/// The allowed names and origins.
#[derive(Debug)]
pub struct Access {
    bound: IpAddr,
    hosts: Vec<String>,
    origins: Vec<Rc<str>>,
}

/// What a request's Origin means for its answer (WHATWG Fetch, "CORS protocol").
#[derive(Debug, Clone, Default)]
pub struct Cors {
    /// Answers differ by Origin, and caches must know.
    varies: bool,
    /// The foreign origin that may read the answer.
    allowed: Option<Rc<str>>,
}

impl Cors {
    /// Adds the fields that let the page read the answer. The origin is echoed, never `*`.
    pub fn apply(&self, response: Response) -> Response {
        let response = if self.varies { response.with_field("Vary", "Origin") } else { response };
        match &self.allowed {
            Some(origin) => response.with_field("Access-Control-Allow-Origin", origin),
            None => response,
        }
    }
}

impl Access {
    /// Access to a server that listens on `bound`. Besides that address and the names of the
    /// loopback, it answers to `hosts`; besides its own pages, it serves those of `origins`.
    pub fn new(bound: SocketAddr, hosts: Vec<String>, origins: Vec<String>) -> Self {
        Access { bound: bound.ip(), hosts, origins: origins.into_iter().map(Rc::from).collect() }
    }

    /// Whether the request may be answered at all, and which page may read the answer.
    ///
    /// # Errors
    /// 421 for a foreign Host; 403 for a foreign Origin where something would change, or a
    /// WebSocket would open: those are not protected by the same-origin policy.
    pub fn check(&self, request: &Request) -> Result<Cors, ApiError> {
        if let Some(name) = request.host_name()
            && !self.knows_host(name)
        {
            let sentence = format!(
                "Host: {name:?} is not a name of this server; expected its address, localhost, or a name given with --allow-host"
            );
            return Err(ApiError { status: 421, sentence });
        }
        let cors = Cors { varies: !self.origins.is_empty(), allowed: None };
        let Some(origin) = request.field("origin") else { return refuse_foreign_fetch(request).map(|()| cors) };
        let origin = String::from_utf8_lossy(origin);
        if let Some(allowed) = self.origins.iter().find(|allowed| allowed.eq_ignore_ascii_case(&origin)) {
            return Ok(Cors { allowed: Some(allowed.clone()), ..cors });
        }
        let safe = matches!(request.method(), Method::Get | Method::Head) && request.field("upgrade").is_none();
        if is_same_origin(&origin, request) {
            return Ok(cors);
        }
        if safe {
            return refuse_foreign_fetch(request).map(|()| cors);
        }
        let sentence = format!(
            "Origin: {origin:?} is foreign; expected this server's own pages, or an origin given with --allow-origin"
        );
        Err(ApiError { status: 403, sentence })
    }

    fn knows_host(&self, name: &str) -> bool {
        let address = name.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>().ok();
        match address {
            // On an unspecified address (0.0.0.0) the server has every address of the machine. An
            // address cannot be rebound, only a name can.
            Some(address) => address == self.bound || address.is_loopback() || self.bound.is_unspecified(),
            None => {
                name.eq_ignore_ascii_case("localhost") || self.hosts.iter().any(|host| host.eq_ignore_ascii_case(name))
            }
        }
    }

    /// The answer to a preflight from an allowed origin; `methods` are those of the path.
    pub fn preflight(methods: &str) -> Response {
        Response::new(204)
            .with_field("Allow", methods)
            .with_field("Access-Control-Allow-Methods", methods)
            .with_field("Access-Control-Allow-Headers", "Content-Type, Last-Event-ID")
            .with_field("Access-Control-Max-Age", "600")
    }
}

/// A poll is a GET, and yet it may move a client's position. A browser that loads it as an image,
/// say, sends no Origin, but says what it is doing (Fetch Metadata). Following a link to this
/// server is welcome.
fn refuse_foreign_fetch(request: &Request) -> Result<(), ApiError> {
    let is_foreign = matches!(request.field("sec-fetch-site"), Some(b"cross-site" | b"same-site"));
    if !is_foreign || request.field("sec-fetch-mode") == Some(b"navigate") {
        return Ok(());
    }
    let sentence = "Sec-Fetch-Site says that a foreign page sent this; expected an origin given with --allow-origin";
    Err(ApiError { status: 403, sentence: sentence.into() })
}

/// The page came from where its request goes: `Origin` is the `Host` with a scheme in front. The
/// scheme is not compared, because a proxy may speak TLS for us.
fn is_same_origin(origin: &str, request: &Request) -> bool {
    let authority = origin.strip_prefix("http://").or_else(|| origin.strip_prefix("https://"));
    authority.zip(request.host()).is_some_and(|(authority, host)| authority.eq_ignore_ascii_case(host))
}
