//! The requests that wait until the journal knows a log: another process may have it.
//!
//! A handler that needs the log returns [`Halt::Wait`] before it has changed anything. When the journal has answered,
//! the request is handled again, from its beginning.

use std::collections::VecDeque;
use std::rc::Rc;
use std::time::{Duration, Instant};

use super::identity::Grant;
use super::params::ApiError;
use crate::connection::Traffic;
use crate::event_loop::ExchangeId;
use crate::http::Request;
use crate::journal::Wanted;
use crate::quotas::Quota;

/// The longest wait of a request.
pub const LOAD_TIME: Duration = Duration::from_secs(5);

/// The most bytes of all requests that wait.
pub const BYTES: usize = 64 * 1024 * 1024;

/// The most requests that wait while the journal cannot answer. It may be back within their wait, but each of them may
/// name another log, and all of these are then loaded at once.
pub const WITHOUT_JOURNAL: usize = 1024;

/// The reason why a handler has not replied.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Halt {
    /// The request is wrong, or it cannot be served.
    Error(ApiError),
    /// The journal must answer first.
    Wait(Wanted),
}

impl Halt {
    /// Returns the error for something that cannot wait.
    pub fn error(self) -> ApiError {
        match self {
            Halt::Error(error) => error,
            Halt::Wait(_) => not_loaded(),
        }
    }
}

impl From<ApiError> for Halt {
    fn from(error: ApiError) -> Self {
        Halt::Error(error)
    }
}

/// Returns the error for a request that has waited too long.
pub fn not_loaded() -> ApiError {
    ApiError { status: 503, sentence: "the messages are not loaded yet: try again later".into() }
}

/// A request that waits.
#[derive(Debug)]
pub struct Parked {
    /// Its exchange.
    pub id: ExchangeId,
    /// The request.
    pub request: Request,
    /// The traffic of the connection before it.
    pub since: Traffic,
    /// Its permission, as in [`Call`](super::exchanges::Call).
    pub grant: Option<Rc<Grant>>,
    /// The quota of its client, unless it is exempt.
    pub quota: Option<Rc<Quota>>,
    /// The end of the wait.
    pub until: Instant,
    /// What the journal must answer first.
    pub wanted: Wanted,
    /// What it has answered before.
    pub answered: Vec<Wanted>,
}

/// All requests that wait, by the end of their wait.
#[derive(Debug, Default)]
pub struct ParkedRequests {
    queue: VecDeque<Parked>,
    /// The bytes of the requests.
    bytes: usize,
}

impl ParkedRequests {
    /// Adds a request. `trouble` is the reason why the journal cannot answer, if there is one.
    ///
    /// # Errors
    /// 503 when too many requests wait, or too many bytes.
    pub fn push(&mut self, parked: Parked, trouble: Option<&str>) -> Result<(), ApiError> {
        if let Some(trouble) = trouble
            && self.queue.len() >= WITHOUT_JOURNAL
        {
            return Err(ApiError { status: 503, sentence: trouble.into() });
        }
        let bytes = parked.request.wire_length();
        if self.bytes + bytes > BYTES {
            return Err(ApiError::full("requests that wait"));
        }
        self.bytes += bytes;
        let place = self.queue.partition_point(|other| other.until <= parked.until);
        self.queue.insert(place, parked);
        Ok(())
    }

    /// Removes and returns the requests that wait for this.
    pub fn take(&mut self, wanted: &Wanted) -> Vec<Parked> {
        self.take_if(|parked| parked.wanted == *wanted)
    }

    /// Removes and returns the request of an exchange that has ended.
    pub fn remove(&mut self, id: ExchangeId) -> Option<Parked> {
        self.take_if(|parked| parked.id == id).pop()
    }

    /// Whether a request waits for this.
    pub fn want(&self, wanted: &Wanted) -> bool {
        self.queue.iter().any(|parked| parked.wanted == *wanted)
    }

    /// Removes and returns the requests whose wait is over.
    pub fn overdue(&mut self, now: Instant) -> Vec<Parked> {
        self.take_if(|parked| parked.until <= now)
    }

    /// Removes and returns all requests.
    pub fn take_all(&mut self) -> Vec<Parked> {
        self.take_if(|_| true)
    }

    fn take_if(&mut self, is_wanted: impl Fn(&Parked) -> bool) -> Vec<Parked> {
        let (taken, left) = std::mem::take(&mut self.queue).into_iter().partition::<Vec<_>, _>(is_wanted);
        self.queue = left.into();
        self.bytes -= taken.iter().map(|parked| parked.request.wire_length()).sum::<usize>();
        taken
    }

    /// Returns the end of the earliest wait. `None` if no request waits.
    pub fn deadline(&self) -> Option<Instant> {
        self.queue.front().map(|parked| parked.until)
    }

    /// Returns the number of bytes that the requests take.
    pub fn bytes(&self) -> usize {
        self.bytes + crate::books::deque(&self.queue)
    }
}
