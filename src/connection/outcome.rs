//! What a connection reports.

use std::io::ErrorKind;

use crate::http::{Request, RequestError};
#[cfg(doc)]
use crate::limits::Limits;
use crate::proxy_protocol::Announced;
use crate::websocket::{CloseCode, Message, ProtocolError};

/// What a connection reports to its owner.
///
/// ```
/// # use std::time::Instant;
/// # use overwire::Limits;
/// # use overwire::connection::{Connection, Context};
/// # let (limits, now, origins) = (Limits::default(), Instant::now(), Default::default());
/// # let context = Context { limits, now, date: "today".into(), draining: false, origins };
/// # use overwire::connection::Outcome;
/// let mut connection = Connection::new(&context);
/// assert!(connection.receive(&mut &b"GET / HT"[..], &context).is_none(), "a part of a request");
/// let outcome = connection.receive(&mut &b"TP/1.1\r\nHost: h\r\n\r\n"[..], &context);
/// assert!(matches!(outcome, Some(Outcome::Request(request)) if request.target() == "/"));
/// ```
#[derive(Debug)]
pub enum Outcome {
    /// A whole request. Nothing more is decoded until it is answered.
    Request(Request),
    /// A whole message of an open WebSocket.
    Message(Message),
    /// A request that was wrong. It has been answered with this number of bytes.
    Refused(RequestError, u64),
    /// The proxy has announced the client of the connection, or that there is none.
    Announced(Option<Announced>),
    /// An outgoing connection is open.
    Opened,
    /// Bytes of a raw connection.
    Bytes(Vec<u8>),
    /// The peer of a raw connection has ended its side.
    EndOfInput,
    /// The outbox of a raw connection is empty again.
    Drained,
    /// What the application holds is over: an unanswered request, a stream, a WebSocket or a raw connection.
    Closed(Closed),
}

/// Why an exchange has ended without the program ending it.
///
/// ```
/// use overwire::Closed;
/// use overwire::websocket::CloseCode;
///
/// fn sentence(why: &Closed) -> String {
///     match why {
///         Closed::Peer(Some(CloseCode::NORMAL), _) => "the page was closed".into(),
///         Closed::Peer(code, reason) => format!("closed with {code:?}: {reason}"),
///         Closed::SlowConsumer => "the client reads too slowly".into(),
///         other => format!("lost: {other:?}"),
///     }
/// }
/// assert_eq!(sentence(&Closed::Peer(Some(CloseCode::NORMAL), String::new())), "the page was closed");
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Closed {
    /// The peer has closed the WebSocket: the status code and the reason of its Close frame. `None` is a Close frame
    /// without a code, which browsers report as 1005.
    Peer(Option<CloseCode>, String),
    /// The peer has violated the WebSocket protocol and was sent a Close frame that says so.
    Violation(ProtocolError),
    /// The peer has ended its side while it was owed something: the answer, the rest of a stream, or a Close frame.
    HungUp,
    /// More was queued for the peer than [`Limits::outbox`] allows.
    SlowConsumer,
    /// All connections together kept more memory than [`Limits::memory`] allows, and this one was among those that kept
    /// the most.
    OverBudget,
    /// The peer did not answer the last Ping, did not accept the connection in time, did not complete a message in
    /// [`Limits::content_time`], or has taken nothing of what waited for it for [`Limits::write_time`].
    TimedOut,
    /// The connection broke: the peer or the network has reset it.
    Reset,
    /// An outgoing connection could not be opened. `ConnectionRefused` means that nobody listens there.
    Refused(ErrorKind),
    /// Nothing may follow: the head of a stream answered a HEAD request or had status 204 or 304, or both sides of a
    /// raw connection have ended.
    Finished,
}

impl Closed {
    /// All names, in the order of the variants.
    pub const NAMES: [&str; 9] = [
        "closed_by_peer",
        "violation",
        "hung_up",
        "slow_consumer",
        "over_budget",
        "timed_out",
        "reset",
        "refused",
        "finished",
    ];

    /// Returns the name in logs and metrics.
    ///
    /// ```
    /// assert_eq!(overwire::Closed::SlowConsumer.name(), "slow_consumer");
    /// ```
    pub fn name(&self) -> &'static str {
        Closed::NAMES[self.index()]
    }

    /// Returns the place in [`NAMES`](Self::NAMES).
    pub(crate) fn index(&self) -> usize {
        match self {
            Closed::Peer(..) => 0,
            Closed::Violation(_) => 1,
            Closed::HungUp => 2,
            Closed::SlowConsumer => 3,
            Closed::OverBudget => 4,
            Closed::TimedOut => 5,
            Closed::Reset => 6,
            Closed::Refused(_) => 7,
            Closed::Finished => 8,
        }
    }

    /// The reason after a system call on a socket has failed.
    pub(crate) fn by(error: ErrorKind) -> Self {
        if error == ErrorKind::TimedOut { Closed::TimedOut } else { Closed::Reset }
    }
}

/// The step that a connection is at, for an operator.
///
/// ```
/// use overwire::ConnectionState;
///
/// assert_eq!(ConnectionState::WebSocket.name(), "websocket");
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ConnectionState {
    /// It is between two requests.
    Idle,
    /// A part of a request has arrived.
    Receiving,
    /// The application has its request, and has not answered yet.
    Held,
    /// The application sends a stream.
    Streaming,
    /// It is an open WebSocket.
    WebSocket,
    /// It is being closed.
    Closing,
    /// It carries bytes that nobody decodes.
    Raw,
}

impl ConnectionState {
    /// All states.
    pub const ALL: [ConnectionState; 7] = {
        use ConnectionState::*;
        [Idle, Receiving, Held, Streaming, WebSocket, Closing, Raw]
    };

    /// Returns the name in logs and metrics.
    pub fn name(self) -> &'static str {
        match self {
            ConnectionState::Idle => "idle",
            ConnectionState::Receiving => "receiving",
            ConnectionState::Held => "held",
            ConnectionState::Streaming => "streaming",
            ConnectionState::WebSocket => "websocket",
            ConnectionState::Closing => "closing",
            ConnectionState::Raw => "raw",
        }
    }
}
