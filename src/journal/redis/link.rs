//! One connection to Redis, without its socket and without a clock: the login, the queue of the replies that are still
//! to come, and the deadline by which something must arrive.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::url::RedisUrl;
use crate::resp::{self, Decoder, Value};

/// The longest silence while a reply is expected. Then the connection is lost.
pub const REPLY_TIME: Duration = Duration::from_secs(4);

/// The longest silence while no reply is expected. Then a PING is sent, because a half-open connection says nothing.
pub const IDLE_TIME: Duration = Duration::from_secs(4);

/// One connection to Redis. `T` names the commands of its program.
///
/// Redis answers the commands of one connection in their order, so a queue of names says which reply is which.
#[derive(Debug)]
pub struct Link<T> {
    most: usize,
    decoder: Decoder,
    state: State,
    output: Vec<u8>,
    asked: VecDeque<Asked<T>>,
    /// The time of the newest bytes, or of the first command that waits for its reply.
    quiet_since: Instant,
    /// Whether a command was sent whose reply is still to come.
    waits: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Closed,
    /// The replies to the login are still to come.
    Greeting,
    Ready,
}

/// A command whose reply is still to come.
#[derive(Debug)]
enum Asked<T> {
    /// A command of the login. The last one makes the link ready.
    Login {
        is_last: bool,
    },
    Ping,
    Program(T),
}

/// What arrives on a link.
#[derive(Debug, PartialEq)]
pub enum Incoming<T> {
    /// The login is complete.
    Ready,
    /// The reply to a command of the program. It may be an error.
    Reply(T, Value),
    /// A message of a subscription.
    Push(Vec<Value>),
}

/// The reason why a connection cannot be used any more: a sentence.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lost(pub String);

impl<T> Link<T> {
    /// Creates a link without a connection. A reply needs at most `most` bytes of memory.
    pub fn new(most: usize, now: Instant) -> Self {
        Link {
            most,
            decoder: Decoder::new(most),
            state: State::Closed,
            output: Vec::new(),
            asked: VecDeque::new(),
            quiet_since: now,
            waits: false,
        }
    }

    /// Begins a new connection with its login: version 3 of the protocol, the password, the name that `CLIENT LIST`
    /// shows, the database, and the scripts that are to be known.
    pub fn open(&mut self, url: &RedisUrl, name: &str, scripts: &[&str], now: Instant) {
        *self = Link { state: State::Greeting, ..Link::new(self.most, now) };
        let user = url.user.as_deref().unwrap_or("default");
        let mut hello: Vec<&[u8]> = vec![b"HELLO", b"3"];
        if let Some(password) = &url.password {
            hello.extend([&b"AUTH"[..], user.as_bytes(), password.as_bytes()]);
        }
        hello.extend([&b"SETNAME"[..], name.as_bytes()]);
        let database = url.database.to_string();
        let mut commands = vec![hello, vec![&b"SELECT"[..], database.as_bytes()]];
        commands.extend(scripts.iter().map(|script| vec![&b"SCRIPT"[..], b"LOAD", script.as_bytes()]));
        let last = commands.len() - 1;
        for (at, command) in commands.iter().enumerate() {
            resp::command(&mut self.output, command);
            self.asked.push_back(Asked::Login { is_last: at == last });
        }
    }

    /// Ends the connection: what was asked gets no reply.
    pub fn close(&mut self, now: Instant) {
        *self = Link::new(self.most, now);
    }

    /// Whether the login is complete.
    pub fn is_ready(&self) -> bool {
        self.state == State::Ready
    }

    /// Asks a command. Its reply comes with this name. Does nothing before the link is [ready](Self::is_ready).
    pub fn ask(&mut self, arguments: &[&[u8]], name: T) {
        self.queue(arguments, Asked::Program(name));
    }

    /// Subscribes, or ends a subscription: what confirms it is a [`Push`](Incoming::Push) and not a reply. A PING
    /// follows it, so that the confirmation has a deadline.
    pub fn subscribe(&mut self, arguments: &[&[u8]]) {
        if self.is_ready() {
            resp::command(&mut self.output, arguments);
            self.queue(&[b"PING"], Asked::Ping);
        }
    }

    fn queue(&mut self, arguments: &[&[u8]], asked: Asked<T>) {
        if self.is_ready() {
            resp::command(&mut self.output, arguments);
            self.asked.push_back(asked);
        }
    }

    /// Returns the number of bytes to send.
    pub fn waiting(&self) -> usize {
        self.output.len()
    }

    /// Returns the bytes to send, but at most this number of them. The wait for the reply begins.
    pub fn take_output(&mut self, most: usize, now: Instant) -> Vec<u8> {
        if !self.waits && !self.asked.is_empty() {
            (self.waits, self.quiet_since) = (true, now);
        }
        let rest = self.output.split_off(self.output.len().min(most));
        std::mem::replace(&mut self.output, rest)
    }

    /// Decodes bytes that have arrived.
    ///
    /// # Errors
    /// The login is refused, or the bytes are not those of Redis.
    pub fn receive(&mut self, mut bytes: &[u8], now: Instant) -> Result<Vec<Incoming<T>>, Lost> {
        self.quiet_since = now;
        let mut incoming = Vec::new();
        while let Some(value) = self.decoder.decode(&mut bytes).map_err(|error| Lost(error.to_string()))? {
            incoming.extend(self.take(value)?);
        }
        self.waits = !self.asked.is_empty();
        Ok(incoming)
    }

    fn take(&mut self, value: Value) -> Result<Option<Incoming<T>>, Lost> {
        if let Value::Push(values) = value {
            return Ok(Some(Incoming::Push(values)));
        }
        match (self.asked.pop_front(), value) {
            (Some(Asked::Program(name)), value) => Ok(Some(Incoming::Reply(name, value))),
            (_, Value::Error(error)) => Err(Lost(explain(&error))),
            (Some(Asked::Login { is_last: true }), _) => {
                self.state = State::Ready;
                Ok(Some(Incoming::Ready))
            }
            (Some(_), _) => Ok(None),
            (None, _) => Err(Lost("Redis has sent a reply to no command".into())),
        }
    }

    /// Returns the time at which [`on_deadline`](Self::on_deadline) is to be called.
    pub fn deadline(&self) -> Option<Instant> {
        let time = if self.waits { REPLY_TIME } else { IDLE_TIME };
        (self.state != State::Closed).then_some(self.quiet_since + time)
    }

    /// Sends a PING, or gives the connection up, if its deadline is over.
    ///
    /// # Errors
    /// Redis is silent.
    pub fn on_deadline(&mut self, now: Instant) -> Result<(), Lost> {
        if self.deadline().is_none_or(|deadline| deadline > now) {
            return Ok(());
        }
        if self.waits {
            return Err(Lost(format!("Redis has not answered for {} seconds", REPLY_TIME.as_secs())));
        }
        self.queue(&[b"PING"], Asked::Ping);
        Ok(())
    }
}

/// Returns the code of an error. Before version 7, an error in a script is a part of a sentence:
/// `ERR Error running script (call to f_…): @user_script:9: -OOM command not allowed …`.
pub fn code(error: &str) -> &str {
    let inner = error.strip_prefix("ERR Error running script").and_then(|error| error.split_once(": -"));
    inner.map_or(error, |(_, inner)| inner).split(' ').next().unwrap_or_default()
}

/// Says what an error of Redis means for a reader who does not know its codes.
pub fn explain(error: &str) -> String {
    let sentence = match code(error) {
        "NOAUTH" => "Redis expects a password: redis://:PASSWORD@HOST:PORT",
        "WRONGPASS" => "Redis does not accept this password or this user",
        "LOADING" => "Redis is still loading its data",
        "READONLY" => "this Redis is a replica, which takes no messages: name its primary",
        "OOM" => "the memory of Redis is full (maxmemory)",
        "MISCONF" => "Redis cannot save its data, and so takes no messages",
        "MASTERDOWN" => "this Redis is a replica that has lost its primary",
        "MOVED" | "ASK" | "CLUSTERDOWN" | "CROSSSLOT" => "this Redis is part of a cluster: expected a single server",
        "NOSCRIPT" => "somebody has removed the scripts from Redis",
        "BUSY" => "Redis is busy with a script of another program",
        "NOPERM" => "Redis does not allow this user what is needed: keys and channels that begin with overwire:",
        "NOREPLICAS" => "Redis has too few replicas to take a message",
        "WRONGTYPE" => "a key that begins with overwire: belongs to another program",
        _ if error.contains("unknown command") => "Redis is too old: expected version 6.2 or later",
        _ => return format!("Redis answers: {error}"),
    };
    sentence.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOGIN: &[u8] = b"%1\r\n$5\r\nproto\r\n:3\r\n+OK\r\n$4\r\nabcd\r\n";

    fn opened(url: &str, now: Instant) -> Link<u8> {
        let mut link = Link::new(10_000, now);
        link.open(&url.parse().unwrap(), "overwire-1", &["return 1"], now);
        link
    }

    fn ready(now: Instant) -> Link<u8> {
        let mut link = opened("redis://localhost", now);
        assert_eq!(link.receive(LOGIN, now), Ok(vec![Incoming::Ready]));
        link.take_output(usize::MAX, now);
        link
    }

    #[test]
    fn a_login_is_one_batch() {
        let now = Instant::now();
        let mut link = opened("redis://ada:pass@localhost/2", now);
        let mut expected = Vec::new();
        for line in ["HELLO 3 AUTH ada pass SETNAME overwire-1", "SELECT 2"] {
            resp::command(&mut expected, &line.split(' ').map(str::as_bytes).collect::<Vec<_>>());
        }
        resp::command(&mut expected, &[b"SCRIPT", b"LOAD", b"return 1"]);
        assert_eq!(link.take_output(usize::MAX, now), expected);
        link.ask(&[b"GET", b"a"], 1);
        assert_eq!(link.take_output(usize::MAX, now), b"", "nothing is asked before the link is ready");
    }

    #[test]
    fn replies_belong_to_commands_in_their_order_whole_and_byte_by_byte() {
        let now = Instant::now();
        let bytes = [LOGIN, b"+A\r\n>2\r\n+message\r\n+x\r\n-ERR no\r\n"].concat();
        for size in [bytes.len(), 1] {
            let mut link = opened("redis://localhost", now);
            let mut incoming = Vec::new();
            for (at, piece) in bytes.chunks(size).enumerate() {
                if at == LOGIN.len() {
                    (1..=2).for_each(|name| link.ask(&[b"GET", b"a"], name));
                }
                if size > 1 {
                    incoming.extend(link.receive(&piece[..LOGIN.len()], now).unwrap());
                    (1..=2).for_each(|name| link.ask(&[b"GET", b"a"], name));
                    incoming.extend(link.receive(&piece[LOGIN.len()..], now).unwrap());
                } else {
                    incoming.extend(link.receive(piece, now).unwrap());
                }
            }
            let text = |text: &str| Value::Simple(text.into());
            let expected = [
                Incoming::Ready,
                Incoming::Reply(1, text("A")),
                Incoming::Push(vec![text("message"), text("x")]),
                Incoming::Reply(2, Value::Error("ERR no".into())),
            ];
            assert_eq!(incoming, expected, "in pieces of {size}");
        }
    }

    #[test]
    fn a_refused_login_says_what_to_do() {
        let now = Instant::now();
        for (error, word) in [
            ("-NOAUTH HELLO must be called with the client already authenticated\r\n", "redis://:PASSWORD@"),
            ("-WRONGPASS invalid username-password pair\r\n", "does not accept"),
            ("-LOADING Redis is loading the dataset in memory\r\n", "loading"),
            ("-ERR unknown command `HELLO`\r\n", "6.2"),
            ("-ERR DB index is out of range\r\n", "DB index is out of range"),
            ("HTTP/1.1 400 Bad Request\r\n", "is this a Redis server?"),
        ] {
            let Lost(sentence) = opened("redis://localhost", now).receive(error.as_bytes(), now).unwrap_err();
            assert!(sentence.contains(word), "{sentence}");
        }
    }

    #[test]
    fn silence_is_questioned_and_then_ends_the_connection() {
        let mut now = Instant::now();
        let mut link = ready(now);
        now += IDLE_TIME;
        assert_eq!(link.deadline(), Some(now));
        assert_eq!(link.on_deadline(now - Duration::from_nanos(1)), Ok(()));
        assert_eq!(link.take_output(usize::MAX, now), b"");
        assert_eq!(link.on_deadline(now), Ok(()));
        assert_eq!(link.take_output(usize::MAX, now), b"*1\r\n$4\r\nPING\r\n");
        assert_eq!(link.receive(b"+PONG\r\n", now), Ok(vec![]));
        now += IDLE_TIME;
        assert_eq!(link.on_deadline(now), Ok(()));
        assert!(!link.take_output(usize::MAX, now).is_empty());
        now += REPLY_TIME;
        assert!(link.on_deadline(now).unwrap_err().0.contains("4 seconds"));
        link.close(now);
        assert_eq!((link.deadline(), link.is_ready()), (None, false));
    }

    #[test]
    fn a_subscription_has_a_deadline_and_its_error_ends_the_connection() {
        let now = Instant::now();
        let mut link = ready(now);
        link.subscribe(&[b"SUBSCRIBE", b"a"]);
        assert!(link.take_output(usize::MAX, now).ends_with(b"*1\r\n$4\r\nPING\r\n"));
        let error = link.receive(b"-NOPERM this user has no permissions\r\n", now).unwrap_err();
        assert!(error.0.contains("channels"), "{error:?}");
    }

    #[test]
    fn a_reply_to_no_command_ends_the_connection() {
        let now = Instant::now();
        assert!(ready(now).receive(b"+OK\r\n", now).is_err());
    }
}
