//! Control of a loop that runs in another thread.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime};

use mio::Waker;

struct State {
    waker: Waker,
    shuts_down: AtomicBool,
    /// Whether [`Event::Woken`](super::Event::Woken) follows.
    has_news: AtomicBool,
    /// The number of nanoseconds by which the loop's clock is ahead of the system's.
    ahead: AtomicU64,
    /// The beginning of the loop.
    start: Instant,
    /// The number of nanoseconds after the start at which the system's clock counts as stopped, or [`RUNS`].
    stopped: AtomicU64,
}

/// The clock is not stopped.
const RUNS: u64 = u64::MAX;

/// A handle to a loop that runs in another thread.
///
/// ```
/// # use overwire::{Event, EventLoop, Limits};
/// let mut event_loop = EventLoop::bind("127.0.0.1:0", Limits::default())?;
/// let remote = event_loop.remote();
/// std::thread::spawn(move || remote.shut_down());
/// while !matches!(event_loop.next_event()?, Event::Shutdown) {}
/// event_loop.drain()?;
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Clone)]
pub struct Remote(Arc<State>);

impl Remote {
    pub(super) fn new(waker: Waker) -> Self {
        Remote(Arc::new(State {
            waker,
            shuts_down: AtomicBool::new(false),
            has_news: AtomicBool::new(false),
            ahead: AtomicU64::new(0),
            start: Instant::now(),
            stopped: AtomicU64::new(RUNS),
        }))
    }

    /// Makes the loop report [`Event::Shutdown`](super::Event::Shutdown).
    pub fn shut_down(&self) {
        self.note_shutdown();
        self.wake();
    }

    /// Makes the loop report [`Event::Woken`](super::Event::Woken): another thread has something for the program. The
    /// calls before the event are reported once.
    ///
    /// ```
    /// # use overwire::{Event, EventLoop, Limits};
    /// let mut event_loop = EventLoop::new(Limits::default())?;
    /// let remote = event_loop.remote();
    /// let (sender, receiver) = std::sync::mpsc::channel();
    /// std::thread::spawn(move || {
    ///     sender.send("news").unwrap();
    ///     remote.notify();
    /// });
    /// while !matches!(event_loop.next_event()?, Event::Woken) {}
    /// assert_eq!(receiver.try_recv(), Ok("news"));
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn notify(&self) {
        if !self.0.has_news.swap(true, Ordering::AcqRel) {
            self.wake();
        }
    }

    /// Whether there was a [`notify`](Remote::notify) since the last call.
    pub(super) fn takes_news(&self) -> bool {
        self.0.has_news.load(Ordering::Relaxed) && self.0.has_news.swap(false, Ordering::AcqRel)
    }

    /// Sets the loop's clock forward, and makes it look at its timers. With this, a test of a timeout of a minute does
    /// not take a minute.
    pub fn advance_clock(&self, by: Duration) {
        self.0.ahead.fetch_add(by.as_nanos() as u64, Ordering::AcqRel);
        self.wake();
    }

    /// Stops the loop's clock: only [`advance_clock`](Remote::advance_clock) moves it, until
    /// [`start_clock`](Remote::start_clock). With this, no deadline passes because a test takes long.
    ///
    /// ```
    /// # use overwire::{Event, EventLoop, Limits};
    /// # use std::time::Duration;
    /// let mut event_loop = EventLoop::new(Limits::default())?;
    /// let remote = event_loop.remote();
    /// remote.stop_clock();
    /// event_loop.set_timer(Duration::from_secs(60));
    /// remote.advance_clock(Duration::from_secs(60));
    /// while !matches!(event_loop.next_event()?, Event::Timer(_)) {}
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn stop_clock(&self) {
        let stopped = self.0.start.elapsed().as_nanos() as u64;
        let _ = self.0.stopped.compare_exchange(RUNS, stopped, Ordering::AcqRel, Ordering::Acquire);
        self.wake();
    }

    /// Lets the loop's clock run again, from the time that it would have if it had not been stopped.
    pub fn start_clock(&self) {
        self.0.stopped.store(RUNS, Ordering::Release);
        self.wake();
    }

    /// The time by the loop's clock.
    pub(super) fn now(&self) -> Instant {
        let system = match self.0.stopped.load(Ordering::Acquire) {
            RUNS => Instant::now(),
            stopped => self.0.start + Duration::from_nanos(stopped),
        };
        system + Duration::from_nanos(self.0.ahead.load(Ordering::Acquire))
    }

    /// The longest sleep from `now` until `at`: `None` for one that only a call of this handle ends.
    pub(super) fn sleep_until(&self, at: Instant, now: Instant) -> Option<Duration> {
        let left = at.saturating_duration_since(now);
        (left.is_zero() || self.0.stopped.load(Ordering::Acquire) == RUNS).then_some(left)
    }

    /// The time of the system, ahead or behind by as much as the loop's clock.
    pub(super) fn system_time(&self) -> SystemTime {
        let (own, system) = (self.now(), Instant::now());
        SystemTime::now() + own.saturating_duration_since(system) - system.saturating_duration_since(own)
    }

    pub(super) fn note_shutdown(&self) {
        self.0.shuts_down.store(true, Ordering::Release);
    }

    pub(super) fn shuts_down(&self) -> bool {
        self.0.shuts_down.load(Ordering::Acquire)
    }

    fn wake(&self) {
        // It fails only when the loop is gone.
        let _ = self.0.waker.wake();
    }
}
