//! The queue of unsent bytes. A server that does not read may wait for the client to read, so writing never blocks for
//! long: it is tried again and again, and the time of the last progress is kept.

use std::io::{self, ErrorKind, Write};
use std::time::{Duration, Instant};

#[derive(Debug, Default)]
pub struct Outgoing {
    bytes: Vec<u8>,
    /// The number of `bytes` that are written.
    written: usize,
    /// The time of the last successful write, or when the queue became non-empty.
    progress: Option<Instant>,
}

impl Outgoing {
    pub fn push(&mut self, bytes: &[u8], now: Instant) {
        self.progress.get_or_insert(now);
        self.bytes.extend_from_slice(bytes);
    }

    /// Writes as many bytes as `stream` takes at once.
    ///
    /// # Errors
    /// The error of the stream. A stream that takes nothing at the moment is not an error.
    pub fn write(&mut self, stream: &mut impl Write, now: Instant) -> io::Result<()> {
        if self.len() == 0 {
            return Ok(());
        }
        match stream.write(&self.bytes[self.written..]) {
            Ok(0) => return Err(ErrorKind::WriteZero.into()),
            Ok(count) => {
                self.written += count;
                self.progress = Some(now);
            }
            Err(error) if is_temporary(error.kind()) => {}
            Err(error) => return Err(error),
        }
        if self.len() == 0 {
            *self = Outgoing::default();
        }
        Ok(())
    }

    /// The number of queued bytes.
    pub fn len(&self) -> usize {
        self.bytes.len() - self.written
    }

    /// Whether no byte was written for `limit` although some are queued.
    pub fn is_stuck(&self, limit: Duration, now: Instant) -> bool {
        self.progress.is_some_and(|progress| now.saturating_duration_since(progress) >= limit)
    }
}

fn is_temporary(kind: ErrorKind) -> bool {
    matches!(kind, ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Takes `n` bytes at a time. 0 is an error of this kind.
    struct Taker(usize, ErrorKind, Vec<u8>);

    impl Write for Taker {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let count = bytes.len().min(self.0);
            self.2.extend_from_slice(&bytes[..count]);
            if count == 0 { Err(self.1.into()) } else { Ok(count) }
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn unsent_bytes_are_kept_and_progress_is_timed() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let limit = Duration::from_secs(30);
        let mut outgoing = Outgoing::default();
        let mut taker = Taker(0, ErrorKind::WouldBlock, Vec::new());
        assert!(!outgoing.is_stuck(limit, at(1000)));
        outgoing.push(b"abc", at(1000));
        outgoing.write(&mut taker, at(1020)).unwrap();
        outgoing.push(b"de", at(1020));
        assert_eq!(outgoing.len(), 5);
        assert!(!outgoing.is_stuck(limit, at(1029)) && outgoing.is_stuck(limit, at(1030)));
        taker.0 = 4;
        outgoing.write(&mut taker, at(1030)).unwrap();
        assert!(!outgoing.is_stuck(limit, at(1059)) && outgoing.is_stuck(limit, at(1060)));
        outgoing.write(&mut taker, at(1060)).unwrap();
        assert_eq!((outgoing.len(), &taker.2[..]), (0, &b"abcde"[..]));
        assert!(!outgoing.is_stuck(limit, at(9999)));
    }

    #[test]
    fn a_closed_stream_is_an_error() {
        let mut outgoing = Outgoing::default();
        outgoing.push(b"a", Instant::now());
        let mut gone = Taker(0, ErrorKind::BrokenPipe, Vec::new());
        assert_eq!(outgoing.write(&mut gone, Instant::now()).unwrap_err().kind(), ErrorKind::BrokenPipe);
    }
}
