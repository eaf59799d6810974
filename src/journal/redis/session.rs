//! The two connections to Redis over the event loop: one for commands, one for the notices of the subscriptions. They
//! are opened together, and when one is lost, so is the other: then what was asked gets no reply.

use std::io;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::{Duration, Instant};

use super::link::{Incoming, Link, Lost};
use super::url::RedisUrl;
use crate::event_loop::{Closed, Event, EventLoop, ExchangeId};
use crate::resp::Value;

/// The pause before the second attempt to connect. It doubles with each further one.
const FIRST_PAUSE: Duration = Duration::from_millis(50);

/// The longest pause between two attempts.
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

/// A session that has lasted for this time was a success: the next pause is the first again.
const STABLE_TIME: Duration = Duration::from_secs(5);

/// The most bytes that are queued on a connection. The rest waits here, because a reset drops what is queued.
const MOST_QUEUED: usize = 256 * 1024;

/// The news of a session.
#[derive(Debug)]
pub enum News<T> {
    /// Both logins are complete.
    Ready,
    /// The reply to a command.
    Reply(T, Value),
    /// A message of a subscription.
    Push(Vec<Value>),
    /// The connections are lost. What was asked gets no reply.
    Lost,
}

/// The progress of a session.
enum Phase {
    /// The next attempt is at this time.
    Pause(Instant),
    /// A thread asks the system for the addresses of the host, and wakes the loop when it has them.
    LookUp(Receiver<io::Result<Vec<SocketAddr>>>),
    /// The connections are being opened, or are open since this time.
    Connected(Instant),
}

/// One of the connections.
struct Side<T> {
    id: Option<ExchangeId>,
    link: Link<T>,
}

/// Two connections to Redis. `T` names the commands.
pub struct Session<T> {
    url: RedisUrl,
    name: String,
    scripts: &'static [&'static str],
    phase: Phase,
    /// The number of attempts since the last success.
    attempts: u32,
    commands: Side<T>,
    notices: Side<T>,
    trouble: Option<String>,
}

impl<T> Session<T> {
    /// Creates a session that connects as soon as the loop [flushes](Self::flush) it. `name` is what `CLIENT LIST` shows,
    /// `most` the most memory of a reply, in bytes.
    pub fn new(url: RedisUrl, name: String, scripts: &'static [&'static str], most: usize, now: Instant) -> Self {
        let side = || Side { id: None, link: Link::new(most, now) };
        Session {
            url,
            name,
            scripts,
            phase: Phase::Pause(now),
            attempts: 0,
            commands: side(),
            notices: side(),
            trouble: Some("Redis has not answered yet".into()),
        }
    }

    /// Returns the reason why there is no session: a sentence. `None` if there is one.
    pub fn trouble(&self) -> Option<&str> {
        self.trouble.as_deref()
    }

    /// Asks a command. Its reply comes with this name.
    pub fn ask(&mut self, arguments: &[&[u8]], name: T) {
        self.commands.link.ask(arguments, name);
    }

    /// Subscribes, or ends a subscription.
    pub fn subscribe(&mut self, arguments: &[&[u8]]) {
        self.notices.link.subscribe(arguments);
    }

    /// Whether another command fits into the queue.
    pub fn has_room(&self, event_loop: &EventLoop) -> bool {
        let Side { id, link } = &self.commands;
        id.is_some_and(|id| event_loop.waiting(id) + link.waiting() < MOST_QUEUED)
    }

    /// Queues what was asked on the connections.
    pub fn flush(&mut self, event_loop: &mut EventLoop) {
        for Side { id, link } in [&mut self.commands, &mut self.notices] {
            let Some(id) = *id else { continue };
            let now = event_loop.now();
            let room = MOST_QUEUED.saturating_sub(event_loop.waiting(id));
            if link.waiting() > 0 && room > 0 {
                event_loop.send_bytes(id, link.take_output(room, now)); // the rest follows when this is written
            }
        }
    }

    /// Takes an event. Returns whether it was one of this session.
    pub fn on_event(&mut self, event_loop: &mut EventLoop, event: &Event, news: &mut Vec<News<T>>) -> bool {
        if matches!((event, &self.phase), (Event::Woken, Phase::LookUp(_))) {
            self.take_addresses(event_loop, news);
            return true;
        }
        let (Event::Opened(id, _)
        | Event::Bytes(id, _)
        | Event::EndOfInput(id)
        | Event::Drained(id)
        | Event::Closed(id, _)) = event
        else {
            return false;
        };
        let now = event_loop.now();
        let Some(side) = [&mut self.commands, &mut self.notices].into_iter().find(|side| side.id == Some(*id)) else {
            return false;
        };
        let result = match event {
            Event::Opened(..) => {
                side.link.open(&self.url, &self.name, self.scripts, now);
                Ok(Vec::new())
            }
            Event::Bytes(_, bytes) => side.link.receive(bytes, now),
            Event::EndOfInput(_) => Err(Lost("Redis has closed the connection".into())),
            Event::Closed(_, why) => Err(Lost(closed(why))),
            _ => Ok(Vec::new()),
        };
        match result {
            Ok(incoming) => self.take(incoming, news),
            Err(lost) => self.lose(event_loop, lost, news),
        }
        true
    }

    fn take(&mut self, incoming: Vec<Incoming<T>>, news: &mut Vec<News<T>>) {
        for incoming in incoming {
            match incoming {
                Incoming::Ready if self.commands.link.is_ready() && self.notices.link.is_ready() => {
                    self.trouble = None;
                    news.push(News::Ready);
                }
                Incoming::Ready => {}
                Incoming::Reply(name, value) => news.push(News::Reply(name, value)),
                Incoming::Push(values) => news.push(News::Push(values)),
            }
        }
    }

    /// Gives both connections up.
    pub fn lose(&mut self, event_loop: &mut EventLoop, Lost(trouble): Lost, news: &mut Vec<News<T>>) {
        let now = event_loop.now();
        let lasted = match self.phase {
            Phase::Connected(since) if self.trouble.is_none() => now.saturating_duration_since(since),
            _ => Duration::ZERO,
        };
        self.attempts = if lasted >= STABLE_TIME { 1 } else { self.attempts + 1 };
        let pause = FIRST_PAUSE * 2u32.pow(self.attempts.min(10) - 1);
        self.phase = Phase::Pause(now + pause.min(LONGEST_PAUSE));
        self.trouble = Some(trouble);
        for side in [&mut self.commands, &mut self.notices] {
            side.link.close(now);
            if let Some(id) = side.id.take() {
                event_loop.reset(id);
            }
        }
        news.push(News::Lost);
    }

    /// Returns the time at which [`on_deadline`](Self::on_deadline) is to be called.
    pub fn deadline(&self) -> Option<Instant> {
        match &self.phase {
            Phase::Pause(until) => Some(*until),
            Phase::LookUp(_) => None,
            Phase::Connected(_) => {
                [&self.commands, &self.notices].into_iter().filter_map(|side| side.link.deadline()).min()
            }
        }
    }

    /// Does what is due.
    pub fn on_deadline(&mut self, event_loop: &mut EventLoop, news: &mut Vec<News<T>>) {
        let now = event_loop.now();
        if self.deadline().is_none_or(|deadline| deadline > now) {
            return;
        }
        let result = match self.phase {
            Phase::Pause(_) => self.look_up(event_loop),
            Phase::LookUp(_) => Ok(()),
            Phase::Connected(_) => {
                self.commands.link.on_deadline(now).and_then(|()| self.notices.link.on_deadline(now))
            }
        };
        if let Err(lost) = result {
            self.lose(event_loop, lost, news);
        }
    }

    /// Has a thread ask for the addresses of the host, because that may take seconds. An address needs no thread.
    fn look_up(&mut self, event_loop: &mut EventLoop) -> Result<(), Lost> {
        if let Ok(address) = self.url.host.parse::<IpAddr>() {
            return self.connect(event_loop, &[SocketAddr::new(address, self.url.port)]);
        }
        let (sender, receiver) = mpsc::channel();
        let (host, remote) = ((self.url.host.clone(), self.url.port), event_loop.remote());
        let look_up = move || {
            let _ = sender.send(host.to_socket_addrs().map(Iterator::collect)); // it fails if nobody wants them any more
            remote.notify();
        };
        let started = thread::Builder::new().name("resolver".into()).spawn(look_up);
        started.map_err(|error| Lost(self.unknown_host(&error.to_string())))?;
        self.phase = Phase::LookUp(receiver);
        Ok(())
    }

    /// Connects to an address that the system has found, if it has answered.
    fn take_addresses(&mut self, event_loop: &mut EventLoop, news: &mut Vec<News<T>>) {
        let Phase::LookUp(receiver) = &self.phase else { return };
        let result = match receiver.try_recv() {
            Err(_) => return, // the loop was woken for another reason
            Ok(Err(error)) => Err(Lost(self.unknown_host(&error.to_string()))),
            Ok(Ok(addresses)) => self.connect(event_loop, &addresses),
        };
        if let Err(lost) = result {
            self.lose(event_loop, lost, news);
        }
    }

    fn unknown_host(&self, why: &str) -> String {
        format!("the address of {} is not known: {why}", self.url.host)
    }

    /// Connects to one of the addresses, to another one at each attempt.
    fn connect(&mut self, event_loop: &mut EventLoop, addresses: &[SocketAddr]) -> Result<(), Lost> {
        let attempt = self.attempts as usize % addresses.len().max(1);
        let address = addresses.get(attempt).ok_or_else(|| Lost(self.unknown_host("it has none")))?;
        self.phase = Phase::Connected(event_loop.now());
        for side in [&mut self.commands, &mut self.notices] {
            side.id = Some(event_loop.connect(*address).map_err(|error| Lost(error.to_string()))?);
        }
        Ok(())
    }
}

/// Says why a connection has ended.
fn closed(why: &Closed) -> String {
    match why {
        Closed::Refused(_) => "Redis does not listen: the connection is refused".into(),
        Closed::TimedOut => "Redis does not accept the connection, or nothing reaches it".into(),
        _ => "the connection to Redis is lost".into(),
    }
}
