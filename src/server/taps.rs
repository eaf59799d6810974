//! Taps: who looks at which exchanges, and what goes wrong with them on purpose.
//!
//! A page opens a viewer, a WebSocket, with an id that nobody can guess, and puts the same id and a
//! label of its own choice into the requests that it wants to see: `?tap=<id>.<label>`.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::rc::Rc;
use std::time::Duration;

use super::params::{ApiError, Fields};
use crate::event_loop::{ExchangeId, Faults};
use crate::wire::Conversation;

/// How many viewers there may be, and how many exchanges one of them sees at a time. Each exchange
/// may keep some content that is not all here.
const MAX_VIEWERS: usize = 64;
const MAX_EXCHANGES: usize = 64;

/// How many labels a viewer may have faults on.
const MAX_LABELS: usize = 32;

/// How long an id may be, in characters; and a label.
const ID: RangeInclusive<usize> = 16..=64;
const LABEL: RangeInclusive<usize> = 1..=32;

/// The most of each switch.
const MAX_DELAY: u64 = 60_000; // milliseconds
const MAX_BUFFER: u64 = 65_536; // bytes
const MAX_RATE: u64 = 1_000_000; // bytes a second

/// A fault that happens once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Strike {
    /// The connection is closed.
    Drop,
    /// It is closed in the middle of the next bytes.
    Cut,
    /// Nothing more is written, and nothing is closed.
    HalfOpen,
}

impl Strike {
    /// Its name in commands.
    pub fn name(self) -> &'static str {
        match self {
            Strike::Drop => "drop",
            Strike::Cut => "cut",
            Strike::HalfOpen => "half-open",
        }
    }
}

/// What goes wrong with the exchanges of one label.
#[derive(Debug, Clone, Default)]
pub struct Trouble {
    /// Until it is switched off.
    pub faults: Faults,
    /// New requests are answered with 502.
    pub bad_gateway: bool,
    /// What happens to the next exchange, if there was none when it was asked for.
    pub pending: Option<Strike>,
}

/// What a page asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// Another value of a switch.
    Switch(Rc<str>),
    /// Once, on this label.
    Strike(Rc<str>, Strike),
    /// The server is to forget everything.
    Restart,
}

/// A page that looks on.
pub struct Viewer {
    /// Its WebSocket.
    pub conn: ExchangeId,
    labels: HashMap<Rc<str>, Trouble>,
    exchanges: u64,
    /// Bytes and events that it was not shown.
    pub left_out: (usize, u64),
    /// An alarm is set that looks whether it can be told of them.
    pub is_alarm_set: bool,
}

/// An exchange that is looked at.
pub struct Exchange {
    /// The id of the viewer.
    pub viewer: Rc<str>,
    /// What its page calls it.
    pub label: Rc<str>,
    /// Counted from 1, for each viewer.
    pub number: u64,
    /// The other end of its connection.
    pub address: Option<SocketAddr>,
    /// Labels its bytes.
    pub conversation: Conversation,
    /// What happens to it alone.
    pub struck: Option<Strike>,
}

/// All viewers and what they look at.
#[derive(Default)]
pub struct Taps {
    viewers: HashMap<Rc<str>, Viewer>,
    by_conn: HashMap<ExchangeId, Rc<str>>,
    exchanges: HashMap<ExchangeId, Exchange>,
}

impl Taps {
    /// Whether nobody looks at anything: the usual case.
    pub fn is_empty(&self) -> bool {
        self.viewers.is_empty()
    }

    /// Whether one more viewer may come.
    pub fn is_full(&self, id: &str) -> bool {
        self.viewers.len() >= MAX_VIEWERS && !self.viewers.contains_key(id)
    }

    /// A viewer has come.
    pub fn open(&mut self, id: &str, conn: ExchangeId) {
        let id: Rc<str> = id.into();
        let viewer = Viewer { conn, labels: HashMap::new(), exchanges: 0, left_out: (0, 0), is_alarm_set: false };
        self.viewers.insert(id.clone(), viewer);
        self.by_conn.insert(conn, id);
    }

    /// This connection is gone. If it was a viewer's, the exchanges that it looked at are returned:
    /// what went wrong with them goes wrong no more.
    pub fn close(&mut self, conn: ExchangeId) -> Vec<ExchangeId> {
        let Some(id) = self.by_conn.remove(&conn) else { return Vec::new() };
        self.viewers.remove(&id);
        let seen = self.exchanges.iter().filter(|(_, exchange)| exchange.viewer == id).map(|(conn, _)| *conn);
        let seen: Vec<_> = seen.collect();
        for conn in &seen {
            self.exchanges.remove(conn);
        }
        seen
    }

    /// The viewer whose WebSocket this is.
    pub fn id_of(&self, conn: ExchangeId) -> Option<Rc<str>> {
        self.by_conn.get(&conn).cloned()
    }

    /// The viewer with this id.
    pub fn viewer(&mut self, id: &str) -> Option<&mut Viewer> {
        self.viewers.get_mut(id)
    }

    /// The ids of all viewers.
    pub fn ids(&self) -> Vec<Rc<str>> {
        self.viewers.keys().cloned().collect()
    }

    /// Whom a request with this value of `tap` is to be shown, and as what.
    pub fn find(&self, tap: &str) -> Option<(Rc<str>, Rc<str>)> {
        let (id, label) = tap.split_once('.').filter(|(_, label)| is_name(label, &LABEL))?;
        let (id, _) = self.viewers.get_key_value(id)?;
        Some((id.clone(), label.into()))
    }

    /// Whether this viewer looks at as much as it may.
    pub fn is_busy(&self, id: &Rc<str>) -> bool {
        self.exchanges.values().filter(|exchange| exchange.viewer == *id).count() >= MAX_EXCHANGES
    }

    /// A viewer looks at one more exchange. Returns what goes wrong with it.
    pub fn begin(&mut self, conn: ExchangeId, id: &Rc<str>, label: Rc<str>, address: Option<SocketAddr>) -> Trouble {
        let Some(viewer) = self.viewers.get_mut(id) else { return Trouble::default() };
        viewer.exchanges += 1;
        let trouble = viewer.labels.get_mut(&label).map(|trouble| {
            let now = trouble.clone();
            trouble.pending = None;
            now
        });
        let exchange = Exchange {
            viewer: id.clone(),
            label,
            number: viewer.exchanges,
            address,
            conversation: Conversation::default(),
            struck: None,
        };
        self.exchanges.insert(conn, exchange);
        trouble.unwrap_or_default()
    }

    /// An exchange that is looked at.
    pub fn exchange(&mut self, conn: ExchangeId) -> Option<&mut Exchange> {
        self.exchanges.get_mut(&conn)
    }

    /// It is over.
    pub fn end(&mut self, conn: ExchangeId) {
        self.exchanges.remove(&conn);
    }

    /// The open exchanges of a label.
    pub fn open_exchanges(&self, id: &str, label: &str) -> Vec<ExchangeId> {
        let are = self.exchanges.iter().filter(|(_, exchange)| *exchange.viewer == *id && *exchange.label == *label);
        let mut conns: Vec<_> = are.map(|(conn, _)| *conn).collect();
        conns.sort_unstable();
        conns
    }

    /// What goes wrong with a label of a viewer's.
    ///
    /// # Errors
    /// When there are too many labels.
    pub fn trouble(&mut self, id: &str, label: &Rc<str>) -> Result<&mut Trouble, ApiError> {
        let viewer = self.viewers.get_mut(id).ok_or_else(|| ApiError::not_found("there is no such tap"))?;
        if viewer.labels.len() >= MAX_LABELS && !viewer.labels.contains_key(label) {
            return Err(ApiError::bad(format!("label: expected at most {MAX_LABELS} different ones")));
        }
        Ok(viewer.labels.entry(label.clone()).or_default())
    }

    /// Carries out what concerns the switches of a command, and says what it asks for.
    ///
    /// # Errors
    /// When it is malformed.
    pub fn command(&mut self, id: &str, text: &[u8]) -> Result<Command, ApiError> {
        let fields = Fields::parse(text)?;
        let fault = fields.required("fault", &LABEL)?;
        if fault == "restart" {
            return Ok(Command::Restart);
        }
        let label = fields.required("label", &LABEL)?;
        if !is_name(label, &LABEL) {
            return Err(ApiError::bad(format!("label: expected letters, digits, - and _, not {label:?}")));
        }
        let label: Rc<str> = label.into();
        for strike in [Strike::Drop, Strike::Cut, Strike::HalfOpen] {
            if fault == strike.name() {
                return Ok(Command::Strike(label, strike));
            }
        }
        let value = |most| fields.whole_number("value", 0..=most);
        match fault {
            "delay" => self.trouble(id, &label)?.faults.delay = Duration::from_millis(value(MAX_DELAY)?),
            "buffer" => self.trouble(id, &label)?.faults.buffer = value(MAX_BUFFER)? as usize,
            "slow" => self.trouble(id, &label)?.faults.rate = value(MAX_RATE)? as u32,
            "502" => self.trouble(id, &label)?.bad_gateway = value(1)? == 1,
            _ => {
                return Err(ApiError::bad(format!(
                    "fault: expected delay, buffer, slow, 502, drop, cut, half-open or restart, not {fault:?}"
                )));
            }
        }
        Ok(Command::Switch(label))
    }
}

/// Whether `id` can be that of a tap: long enough not to be guessed.
///
/// # Errors
/// When it cannot.
pub fn check_id(id: &str) -> Result<(), ApiError> {
    if is_name(id, &ID) {
        return Ok(());
    }
    let (least, most) = (ID.start(), ID.end());
    Err(ApiError::bad(format!("tap: expected {least} to {most} letters, digits, - and _ that nobody can guess")))
}

fn is_name(name: &str, length: &RangeInclusive<usize>) -> bool {
    length.contains(&name.len()) && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte))
}
