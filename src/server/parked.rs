//! The requests that wait until the journal knows a log or a session: another process may have it.
//!
//! A handler that needs it returns [`Halt::Wait`] before it has changed anything. When the journal has answered,
//! the request is handled again, from its beginning.

use std::collections::{BTreeMap, HashMap};
use std::time::{Duration, Instant};

use super::params::ApiError;
use super::requests::Admission;
use crate::books;
use crate::connection::Traffic;
use crate::event_loop::ExchangeId;
use crate::http::Request;
use crate::journal::Wanted;

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
            Halt::Wait(wanted) => not_found_in_time(&wanted),
        }
    }
}

impl From<ApiError> for Halt {
    fn from(error: ApiError) -> Self {
        Halt::Error(error)
    }
}

/// Returns the error for a request that has waited too long.
pub fn not_found_in_time(wanted: &Wanted) -> ApiError {
    let sentence = match wanted {
        Wanted::Secret(_) => "the session or the ticket cannot be looked for at present: try again later",
        _ => "the messages are not loaded yet: try again later",
    };
    ApiError { status: 503, sentence: sentence.into() }
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
    /// Its permission and the quota of its client. `None` if it is not admitted yet: the journal knows its session.
    pub admission: Option<Admission>,
    /// The end of the wait.
    pub until: Instant,
    /// What the journal must answer first.
    pub wanted: Wanted,
    /// What it has answered before.
    pub answered: Vec<Wanted>,
}

/// The place of a request among those that wait: the end of its wait, and its number.
type Place = (Instant, u64);

/// All requests that wait. An answer of the journal takes out those that wait for it, an end of a connection takes out its
/// own, and both touch no other: thousands may wait, each for another log.
#[derive(Debug, Default)]
pub struct ParkedRequests {
    waiting: BTreeMap<Place, Parked>,
    by_wanted: HashMap<Wanted, Vec<Place>>,
    by_exchange: HashMap<ExchangeId, Place>,
    /// The number of requests that have waited so far.
    pushed: u64,
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
            && self.waiting.len() >= WITHOUT_JOURNAL
        {
            return Err(ApiError { status: 503, sentence: trouble.into() });
        }
        let bytes = parked.request.wire_length();
        if self.bytes + bytes > BYTES {
            return Err(ApiError::full("requests that wait"));
        }
        self.bytes += bytes;
        self.pushed += 1;
        let place = (parked.until, self.pushed);
        self.by_wanted.entry(parked.wanted.clone()).or_default().push(place);
        self.by_exchange.insert(parked.id, place);
        self.waiting.insert(place, parked);
        Ok(())
    }

    /// Removes and returns the requests that wait for this.
    pub fn take(&mut self, wanted: &Wanted) -> Vec<Parked> {
        let places = self.by_wanted.remove(wanted).unwrap_or_default();
        places.into_iter().filter_map(|place| self.take_at(place)).collect()
    }

    /// Removes and returns the request of an exchange that has ended.
    pub fn remove(&mut self, id: ExchangeId) -> Option<Parked> {
        let place = *self.by_exchange.get(&id)?;
        self.take_at(place)
    }

    /// Whether a request waits for this.
    pub fn want(&self, wanted: &Wanted) -> bool {
        self.by_wanted.contains_key(wanted)
    }

    /// Removes and returns the requests whose wait is over.
    pub fn overdue(&mut self, now: Instant) -> Vec<Parked> {
        let mut overdue = Vec::new();
        while let Some((place, _)) = self.waiting.first_key_value().filter(|((until, _), _)| *until <= now) {
            overdue.extend(self.take_at(*place));
        }
        overdue
    }

    /// Removes and returns all requests.
    pub fn take_all(&mut self) -> Vec<Parked> {
        std::mem::take(self).waiting.into_values().collect()
    }

    fn take_at(&mut self, place: Place) -> Option<Parked> {
        let parked = self.waiting.remove(&place)?;
        self.bytes -= parked.request.wire_length();
        self.by_exchange.remove(&parked.id);
        if let Some(places) = self.by_wanted.get_mut(&parked.wanted) {
            places.retain(|other| *other != place);
            if places.is_empty() {
                self.by_wanted.remove(&parked.wanted);
            }
        }
        if self.waiting.is_empty() {
            // A crowd leaves no memory behind.
            (self.by_wanted, self.by_exchange) = Default::default();
        }
        Some(parked)
    }

    /// Returns the end of the earliest wait. `None` if no request waits.
    pub fn deadline(&self) -> Option<Instant> {
        self.waiting.first_key_value().map(|((until, _), _)| *until)
    }

    /// Returns the number of bytes that the requests take.
    pub fn bytes(&self) -> usize {
        let places = self.waiting.len() * size_of::<Place>();
        let maps = books::map(&self.by_wanted) + books::map(&self.by_exchange);
        self.bytes + books::btree_map(&self.waiting) + maps + places
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::journal::LogName;
    use crate::server::exchanges::Exchanges;
    use crate::server::testing::Client;

    fn wanted(room: &str) -> Wanted {
        Wanted::Log(LogName::Room(room.into()))
    }

    /// A request of a client that waits for a room, for this number of seconds.
    fn parked(exchanges: &Exchanges, client: &Client, room: &str, seconds: u64) -> Parked {
        Parked {
            id: client.id,
            request: client.call().request.clone(),
            since: Traffic::default(),
            admission: None,
            until: exchanges.now() + Duration::from_secs(seconds),
            wanted: wanted(room),
            answered: Vec::new(),
        }
    }

    #[test]
    fn requests_are_taken_by_what_they_want_by_exchange_and_by_time() {
        let (mut exchanges, mut requests) = (Exchanges::for_test(), ParkedRequests::default());
        let clients = [(); 4].map(|()| exchanges.request("GET", "/api/messages", ""));
        for (client, (room, seconds)) in clients.iter().zip([("a", 3), ("b", 1), ("a", 2), ("c", 2)]) {
            requests.push(parked(&exchanges, client, room, seconds), None).unwrap();
        }
        let (ids, now) = (clients.each_ref().map(|client| client.id), exchanges.now());
        let found = |parked: Vec<Parked>| parked.into_iter().map(|parked| parked.id).collect::<Vec<_>>();
        let [a, c] = ["a", "c"].map(wanted);
        assert_eq!(requests.deadline(), Some(now + Duration::from_secs(1)));
        assert_eq!(found(requests.overdue(now + Duration::from_secs(1))), [ids[1]]);
        assert_eq!(requests.remove(ids[3]).map(|parked| parked.id), Some(ids[3]));
        assert!(requests.want(&a) && !requests.want(&c));
        assert_eq!(found(requests.take(&a)), [ids[0], ids[2]]);
        assert_eq!((requests.take(&a).len(), requests.bytes()), (0, 0));
    }
}
