//! The connections, one by one, for an operator: `/api/connections`.
//!
//! With `--keys` this needs the right `admin`. Without it, everyone may do everything else, but only a client on this
//! machine sees the addresses of others. The peer of the connection must be on the loopback interface, and the request
//! must be for `localhost` or an address of that interface. A field that proxies add shows that the client is elsewhere,
//! whether the proxy is trusted or not, and the request is refused. With `--proxy-protocol`, every connection comes
//! through a proxy, so a trusted one must have announced a client on this machine. Two kinds of clients elsewhere still
//! look local: those of a proxy on this machine that adds no field and asks for the loopback address or passes on the
//! Host that a client chose, and those of a rootless container, whose network relays connections. Use `--keys` there.

use std::net::IpAddr;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};

use super::exchanges::{Call, EndReason, Reply};
use super::message::{Transport, timestamp};
use super::params::{self, ApiError, ID, NAME};
use super::parked::Halt;
use super::{Feature, FeatureId, Server, uncached};
use crate::access::is_loopback_name;
use crate::event_loop::{ConnectionId, ConnectionReport, ConnectionState, ExchangeId};
use crate::http::{Content, Request, Response};

/// The fields by which a proxy shows itself, and the beginning of the names of more. The first three are standards (RFC
/// 7239; RFC 9110, section 7.6.3; RFC 8586). The others are conventions.
const FIELDS_OF_PROXIES: [&str; 8] = [
    "forwarded",
    "via",
    "cdn-loop",
    "x-real-ip",
    "x-client-ip",
    "x-cluster-client-ip",
    "true-client-ip",
    "cf-connecting-ip",
];
const PREFIX_OF_PROXIES: &str = "x-forwarded-";

/// The time without an acknowledgement after which a connection is a ghost.
const GHOST: Duration = Duration::from_secs(30);

/// The most ghosts that are named, and the time for which their list is kept: it takes a system call a connection.
const GHOSTS: usize = 100;
const GHOSTS_KEPT: Duration = Duration::from_secs(1);

/// The list of ghosts, as JSON, and the end of its time.
pub type Ghosts = Option<(Instant, Value)>;

/// The default number of connections in an answer.
const PAGE: u64 = 100;

/// What a held exchange reads.
#[derive(Debug, Default)]
pub struct Place<'a> {
    /// The name of the room.
    pub room: Option<&'a str>,
    /// The id of the mailbox, which is the right to read it.
    pub mailbox: Option<&'a str>,
    /// The `client_id` or the id of the peer.
    pub client_id: Option<&'a str>,
    /// The number of messages that it was sent together with others.
    pub sent: u64,
}

/// The connections that are asked for. `None` stands for all.
struct Filters {
    room: Option<String>,
    transport: Option<Transport>,
    identity: Option<String>,
    client: Option<IpAddr>,
}

impl Filters {
    /// Reads the query parameters.
    ///
    /// # Errors
    /// 400 that names the parameter.
    fn of(request: &Request) -> Result<Self, ApiError> {
        let transport = params::text(request, "transport", &NAME)?;
        let of_name = |name: String| {
            let expected = format!("one of {}", Transport::ALL.map(Transport::name).join(", "));
            let found = Transport::ALL.into_iter().find(|transport| transport.name() == name);
            found.ok_or_else(|| ApiError::bad(format!("transport: expected {expected}, not {name:?}")))
        };
        let client = params::text(request, "client", &ID)?;
        let address = |text: String| {
            let parsed = text.parse().map(|address: IpAddr| address.to_canonical());
            parsed.map_err(|_| ApiError::bad(format!("client: expected an address such as 192.0.2.1, not {text:?}")))
        };
        Ok(Filters {
            room: params::text(request, "room", &NAME)?,
            transport: transport.map(of_name).transpose()?,
            identity: params::text(request, "identity", &NAME)?,
            client: client.map(address).transpose()?,
        })
    }
}

impl Server {
    /// GET /api/connections
    pub(super) fn connections(&mut self, call: &Call<'_>) -> Result<Reply, Halt> {
        self.check_operator(call)?;
        let (filters, limit, after) = parameters(call.request)?;
        let (mut rows, mut last, mut has_more) = (Vec::new(), None, false);
        for id in self.exchanges.event_loop.connection_ids(after) {
            let Some(row) = self.row(id, &filters) else { continue };
            has_more = rows.len() == limit;
            if has_more {
                break;
            }
            rows.push(row);
            last = Some(id.to_string());
        }
        let after = last.filter(|_| has_more);
        Ok(Reply::Now(uncached(&json!({ "connections": rows, "after": after }))))
    }

    /// HEAD /api/connections
    pub(super) fn connections_head(&self, call: &Call<'_>) -> Result<Response, ApiError> {
        self.check_operator(call)?;
        parameters(call.request)?;
        let response = Response::new(200).with_content("application/json", Content::Omitted(None));
        Ok(response.with_field("Cache-Control", "no-store"))
    }

    /// DELETE /api/connections/{id}: a WebSocket is closed with 1008, a stream gets the event `ended`, a poll is answered.
    /// Any other connection is reset. Its client may come back: to keep it out, revoke its key.
    pub(super) fn end_connection(&mut self, call: &Call<'_>) -> Result<Reply, Halt> {
        self.check_operator(call)?;
        let path = call.request.path();
        let text = path.strip_prefix("/api/connections/").unwrap_or_default();
        let event_loop = &self.exchanges.event_loop;
        let report = text.parse().ok().and_then(|id| event_loop.connection(id)).filter(is_of_client);
        let Some(ConnectionReport { id, exchange, .. }) = report else {
            return Err(ApiError::not_found(format!("connection {text:?} is unknown, or is closed")).into());
        };
        if id == event_loop.connection_of(call.id) {
            return Err(ApiError::conflict("id: expected another connection than that of this request").into());
        }
        match self.owner(exchange) {
            Some((feature, exchanges)) => feature.end(exchanges, exchange, EndReason::Ended),
            None => {
                self.remove_parked(exchange);
                self.exchanges.event_loop.reset(exchange);
            }
        }
        Ok(Reply::Now(uncached(&json!({ "status": "ended" }))))
    }

    /// Checks that an operator asks. With `--keys`, the table of routes has the right that is needed.
    ///
    /// # Errors
    /// 403 for a client that may be elsewhere.
    pub(super) fn check_operator(&self, call: &Call<'_>) -> Result<(), ApiError> {
        if self.guard.is_some() {
            return Ok(());
        }
        let event_loop = &self.exchanges.event_loop;
        let peer = event_loop.peer_address(event_loop.connection_of(call.id));
        let client = event_loop.trusted_client(call.id, call.request);
        let is_local = |address: IpAddr| address.to_canonical().is_loopback();
        // A proxy that says nothing of its client may have any.
        let is_known = !self.is_proxied || event_loop.is_announced(call.id);
        let is_here = is_known && peer.is_some_and(|peer| is_local(peer.ip())) && client.is_none_or(is_local);
        let is_for_here = call.request.host_name().is_some_and(is_loopback_name);
        let is_relayed = call.request.fields().any(|(name, _)| is_of_proxy(name));
        if is_here && is_for_here && !is_relayed {
            return Ok(());
        }
        Err(ApiError::forbidden(
            "expected a client on the machine of the server that asks for localhost, and no proxy between them, or \
             --keys and a key with the right admin",
        ))
    }

    /// Returns the connections whose peers may have vanished. Their addresses are only in `/api/connections`.
    pub(super) fn ghosts(&mut self) -> Value {
        let now = self.exchanges.now();
        if let Some((_, ghosts)) = self.ghosts.as_ref().filter(|(until, _)| now < *until) {
            return ghosts.clone();
        }
        let ghosts = self.ghosts_after(GHOST);
        self.ghosts = Some((now + GHOSTS_KEPT, ghosts.clone()));
        ghosts
    }

    /// Returns the list of clients' connections that have bytes which were not acknowledged for this time.
    pub(super) fn ghosts_after(&self, time: Duration) -> Value {
        let event_loop = &self.exchanges.event_loop;
        let is_named = |id| event_loop.connection_without_address(id).as_ref().is_some_and(is_of_client);
        let ghosts = event_loop.ghosts(time).into_iter().filter(|ghost| is_named(ghost.id)).take(GHOSTS);
        ghosts
            .map(|ghost| {
                let transport = self.exchanges.record(ghost.exchange).map(|record| record.transport.name());
                let (id, seconds) = (ghost.id.to_string(), ghost.age.as_secs());
                json!({ "id": id, "transport": transport, "bytes": ghost.bytes, "seconds": seconds })
            })
            .collect()
    }

    /// Returns the row of a connection that was asked for.
    fn row(&self, id: ConnectionId, filters: &Filters) -> Option<Value> {
        let event_loop = &self.exchanges.event_loop;
        let report = event_loop.connection_without_address(id).filter(is_of_client)?;
        let record = self.exchanges.record(report.exchange);
        let place = self.place(report.exchange).unwrap_or_default();
        let grant = self.exchanges.grants.get(&report.exchange);
        let identity = grant.map(|grant| grant.key().name.as_str());
        let transport = record.map(|record| record.transport);
        let fits = (filters.room.is_none() || filters.room.as_deref() == place.room)
            && (filters.transport.is_none() || filters.transport == transport)
            && (filters.identity.is_none() || filters.identity.as_deref() == identity);
        if !fits {
            return None;
        }
        // The address of the peer is asked for last: it takes a system call.
        let peer = || event_loop.peer_address(id).map(|peer| peer.ip().to_canonical());
        let client = record.and_then(|record| record.client).or_else(peer);
        if filters.client.is_some() && filters.client != client {
            return None;
        }
        let now = event_loop.system_time();
        let sent = record.map_or(0, |record| record.sent) + place.sent;
        Some(json!({
            "id": id.to_string(),
            "transport": transport.map(Transport::name),
            "state": report.state.name(),
            "room": place.room,
            "mailbox": place.mailbox.map(shorten),
            "client_id": place.client_id,
            "identity": identity,
            "client": client.map(|address| address.to_string()),
            "opened": before(now, report.age),
            "last_seen": before(now, report.silence),
            "messages_in": record.map_or(0, |record| record.received),
            "messages_out": sent,
            "bytes_in": report.traffic.received,
            "bytes_out": report.traffic.sent,
            "waiting": report.waiting,
        }))
    }

    fn place(&self, id: ExchangeId) -> Option<Place<'_>> {
        match self.exchanges.owner(id)? {
            FeatureId::Rooms => self.rooms.place(id),
            FeatureId::Mailboxes => self.mailboxes.place(id),
            FeatureId::Signalling => self.peers.place(id),
        }
    }
}

/// Returns the time that lies this long before now, in seconds since the epoch.
pub fn before(now: SystemTime, ago: Duration) -> f64 {
    timestamp(now.checked_sub(ago).unwrap_or(UNIX_EPOCH))
}

/// Whether a field is one that proxies add.
fn is_of_proxy(name: &str) -> bool {
    let begin = name.get(..PREFIX_OF_PROXIES.len());
    begin.is_some_and(|begin| begin.eq_ignore_ascii_case(PREFIX_OF_PROXIES))
        || FIELDS_OF_PROXIES.iter().any(|field| name.eq_ignore_ascii_case(field))
}

/// Whether it is a client's, and not the server's own to Redis.
fn is_of_client(report: &ConnectionReport) -> bool {
    report.state != ConnectionState::Raw
}

/// The beginning of the id of a mailbox. All of it would be the right to read the mailbox.
fn shorten(mailbox: &str) -> String {
    mailbox.chars().take(8).chain(['…']).collect()
}

/// Reads the filters, the number of rows, and the connection after which they begin.
fn parameters(request: &Request) -> Result<(Filters, usize, Option<ConnectionId>), ApiError> {
    let filters = Filters::of(request)?;
    let limit = params::number(request, "limit", PAGE, 1..=1000)? as usize;
    let after = request.parameter("after").filter(|text| !text.is_empty());
    let wrong = |text| ApiError::bad(format!("after: expected the id of a connection such as 12-3, not {text:?}"));
    let after = after.map(|text| text.parse().map_err(|_| wrong(text))).transpose()?;
    Ok((filters, limit, after))
}
