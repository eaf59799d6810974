//! All followers, on one event loop. Each comes back as soon as its transport allows: nothing is spread here.

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use overwire::{Event, EventLoop, ExchangeId, Limits, TimerId};

use crate::follower::{Follower, State, Transport};

/// The longest wait for a state of the fleet.
const PATIENCE: Duration = Duration::from_secs(60);

/// The number of connections that are opened at once at the beginning.
const BATCH: usize = 500;

/// A follower and its connection.
struct Place {
    follower: Follower,
    conn: Option<ExchangeId>,
    /// When it has begun to connect. `None` if its answer has begun.
    since: Option<Instant>,
    is_back: bool,
}

pub struct Fleet {
    event_loop: EventLoop,
    address: SocketAddr,
    places: Vec<Place>,
    numbers: HashMap<ExchangeId, usize>,
    waits: HashMap<TimerId, usize>,
    /// The times at which followers have connected again.
    pub returns: Vec<Instant>,
    /// The longest time from a reconnection to the head of its answer.
    pub longest_wait: Duration,
}

impl Fleet {
    /// Connects all followers.
    pub fn open(address: SocketAddr, count: usize) -> io::Result<Self> {
        let mut fleet = Fleet {
            event_loop: EventLoop::new(Limits::default())?,
            address,
            places: Vec::new(),
            numbers: HashMap::new(),
            waits: HashMap::new(),
            returns: Vec::new(),
            longest_wait: Duration::ZERO,
        };
        while fleet.places.len() < count {
            for number in fleet.places.len()..count.min(fleet.places.len() + BATCH) {
                let follower = Follower::new(Transport::ALL[number % Transport::ALL.len()]);
                fleet.places.push(Place { follower, conn: None, since: None, is_back: false });
                fleet.connect(number)?;
            }
            // A poll is not answered yet.
            let is_open = |place: &Place| place.follower.is_answered || place.follower.is_poll();
            fleet.run_until("open connections", |fleet| fleet.places.iter().all(is_open))?;
        }
        Ok(fleet)
    }

    /// Runs until the fleet is in a state.
    pub fn run_until(&mut self, what: &str, is_so: impl Fn(&Self) -> bool) -> io::Result<()> {
        let (start, tick) = (Instant::now(), Duration::from_millis(20));
        let mut timer = self.event_loop.set_timer(tick);
        loop {
            match self.event_loop.next_event()? {
                Event::Timer(due) if due == timer => {
                    if is_so(self) {
                        return Ok(());
                    }
                    if start.elapsed() > PATIENCE {
                        return Err(io::Error::other(format!("timed out: {what}")));
                    }
                    timer = self.event_loop.set_timer(tick);
                }
                event => self.handle(event)?,
            }
        }
    }

    pub fn all(&self, is_so: impl Fn(&Follower) -> bool) -> bool {
        self.places.iter().all(|place| is_so(&place.follower))
    }

    pub fn sum(&self, of: impl Fn(&Follower) -> u64) -> u64 {
        self.places.iter().map(|place| of(&place.follower)).sum()
    }

    /// Whether each follower has a new connection.
    pub fn is_back(&self) -> bool {
        self.places.iter().all(|place| place.is_back)
    }

    fn handle(&mut self, event: Event) -> io::Result<()> {
        match event {
            Event::Bytes(conn, bytes) => {
                let Some(number) = self.numbers.get(&conn).copied() else { return Ok(()) };
                let (place, mut output) = (&mut self.places[number], Vec::new());
                let state = place.follower.take(&bytes, &mut output)?;
                if let Some(since) = place.since.take_if(|_| place.follower.is_answered) {
                    self.longest_wait = self.longest_wait.max(since.elapsed());
                }
                if !output.is_empty() {
                    self.event_loop.send_bytes(conn, output);
                }
                if let State::Over(wait) = state {
                    self.leave(number, wait);
                }
            }
            Event::EndOfInput(conn) | Event::Closed(conn, _) => {
                if let Some(number) = self.numbers.get(&conn).copied() {
                    self.leave(number, Duration::ZERO); // without a word
                }
            }
            Event::Timer(timer) => {
                if let Some(number) = self.waits.remove(&timer) {
                    self.places[number].is_back = true;
                    self.returns.push(Instant::now());
                    self.connect(number)?;
                }
            }
            _ => {}
        }
        Ok(())
    }

    /// Lets a follower come back after this time.
    fn leave(&mut self, number: usize, wait: Duration) {
        if let Some(conn) = self.places[number].conn.take() {
            self.numbers.remove(&conn);
            self.event_loop.close(conn, overwire::websocket::CloseCode::NORMAL, "");
        }
        self.waits.insert(self.event_loop.set_timer(wait), number);
    }

    fn connect(&mut self, number: usize) -> io::Result<()> {
        let conn = self.event_loop.connect(self.address)?;
        let place = &mut self.places[number];
        (place.conn, place.since) = (Some(conn), (!place.follower.is_poll()).then(Instant::now));
        self.numbers.insert(conn, number);
        self.event_loop.send_bytes(conn, place.follower.begin());
        Ok(())
    }
}
