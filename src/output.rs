//! Lines of text to standard output, standard error or another sink, written without waiting: a pipe that nobody reads,
//! a terminal on hold or a slow disk does not stop an event loop. A thread writes, and a bounded queue lies between.

use std::fmt;
use std::io::{self, ErrorKind, Write};
use std::mem;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread;
use std::time::Duration;

/// The longest queue, in bytes. The thread may be writing as many again.
pub const LONGEST_QUEUE: usize = 1024 * 1024;

/// The time that queued lines have at the end.
const FINISH_TIME: Duration = Duration::from_secs(1);

/// The pause before another attempt to write to a sink that is full and does not block.
const PAUSE: Duration = Duration::from_millis(10);

/// A sink for lines with a thread that writes them. Lines that do not fit into its queue are dropped and counted, and
/// a line reports their number when there is room again. A clone writes to the same queue.
///
/// ```
/// use overwire::output::Output;
///
/// let output = Output::from(std::io::stderr());
/// output.write("a line\n");
/// output.finish();
/// ```
#[derive(Clone)]
pub struct Output(Arc<Handle>);

/// The program's side of a queue. The thread ends after it is dropped.
struct Handle(Arc<Queue>);

#[derive(Default)]
struct Queue {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    text: Vec<u8>,
    /// The number of lines that were dropped since the last report.
    dropped: usize,
    /// Whether a line did not fit. Others are dropped until the report of them, so that the order is kept.
    is_full: bool,
    /// Whether the thread is writing what it has taken out of `text`.
    is_writing: bool,
    /// Whether the sink has used up the time that it has at the end.
    is_stuck: bool,
    is_closed: bool,
    /// Whether the report of dropped lines is a JSON object.
    reports_as_json: bool,
}

/// Returns standard output, which all parts of the process share.
pub fn standard_output() -> Output {
    static OUTPUT: OnceLock<Output> = OnceLock::new();
    OUTPUT.get_or_init(|| Output::from(io::stdout())).clone()
}

/// Returns standard error, which all parts of the process share.
pub fn standard_error() -> Output {
    static OUTPUT: OnceLock<Output> = OnceLock::new();
    OUTPUT.get_or_init(|| Output::from(io::stderr())).clone()
}

/// Prints a line on standard error, after the name of the program. It may repeat what another program has sent, so what a
/// terminal would obey is escaped.
pub fn complain(complaint: fmt::Arguments<'_>) {
    standard_error().write(&format!("overwire: {}\n", visible(&complaint.to_string())));
}

/// Escapes all characters that are not [harmless](is_harmless), but line feeds.
///
/// ```
/// assert_eq!(overwire::output::visible("a\u{1b}[1m\n"), "a\\u{1b}[1m\n");
/// ```
pub fn visible(text: &str) -> String {
    let mut visible = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            _ if character == '\n' || is_harmless(character) => visible.push(character),
            _ => visible.extend(character.escape_unicode()),
        }
    }
    visible
}

/// Whether this is neither a control character nor one of Unicode's line ends, format characters and fillers, which are
/// invisible. Variation selectors are harmless: emojis have them.
///
/// ```
/// use overwire::output::is_harmless;
///
/// assert!(is_harmless('\u{e9}') && !is_harmless('\x1b') && !is_harmless('\u{202e}'));
/// ```
pub fn is_harmless(character: char) -> bool {
    !character.is_control()
        && !matches!(u32::from(character),
            0xad | 0x34f | 0x61c | 0x115f..=0x1160 | 0x17b4..=0x17b5 | 0x180b..=0x180f | 0x200b..=0x200f
            | 0x2028..=0x202e | 0x2060..=0x206f | 0x3164 | 0xfeff | 0xffa0 | 0xfff0..=0xfffb | 0x13430..=0x1343f
            | 0x1bca0..=0x1bca3 | 0x1d173..=0x1d17a | 0xe0000..=0xe0fff)
}

impl<W: Write + Send + 'static> From<W> for Output {
    /// Starts the thread. If the system refuses it, all lines are dropped.
    fn from(sink: W) -> Self {
        let queue = Arc::new(Queue::default());
        let run = {
            let queue = Arc::clone(&queue);
            move || queue.write_all(sink)
        };
        queue.lock().is_closed = thread::Builder::new().name("output".into()).spawn(run).is_err();
        Output(Arc::new(Handle(queue)))
    }
}

impl Output {
    /// Queues whole lines, or drops them if the queue is full. Never waits.
    pub fn write(&self, lines: &str) {
        let Output(handle) = self;
        handle.0.push(lines.as_bytes());
    }

    /// Makes the report of dropped lines a JSON object, for lines that are JSON: `{"dropped_lines":41}`.
    pub fn report_as_json(&self) {
        let Output(handle) = self;
        handle.0.lock().reports_as_json = true;
    }

    /// Waits until all lines are written, but not for more than a second, and only once for a sink that takes none.
    pub fn finish(&self) {
        let Output(handle) = self;
        handle.0.finish();
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.0.lock().is_closed = true;
        self.0.changed.notify_all();
    }
}

impl State {
    /// Whether there is nothing to write.
    fn is_idle(&self) -> bool {
        self.text.is_empty() && !self.is_full
    }
}

impl Queue {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn push(&self, lines: &[u8]) {
        let mut state = self.lock();
        let was_idle = state.is_idle();
        state.is_full |= state.text.len() + lines.len() > LONGEST_QUEUE;
        if state.is_full || state.is_closed {
            state.dropped += lines_in(lines);
        } else {
            state.text.extend_from_slice(lines);
        }
        if was_idle {
            self.changed.notify_all();
        }
    }

    fn finish(&self) {
        let state = self.lock();
        let is_busy = |state: &mut State| !state.is_stuck && (state.is_writing || !state.is_idle());
        let (mut state, waited) =
            self.changed.wait_timeout_while(state, FINISH_TIME, is_busy).unwrap_or_else(PoisonError::into_inner);
        state.is_stuck |= waited.timed_out();
    }

    /// Waits for lines, and moves them into `buffer`, with a report about those that were dropped after them. Returns
    /// the number in the report, or `None` at the end.
    fn take(&self, buffer: &mut Vec<u8>) -> Option<usize> {
        buffer.clear();
        let state = self.lock();
        let waits = |state: &mut State| state.is_idle() && !state.is_closed;
        let mut state = self.changed.wait_while(state, waits).unwrap_or_else(PoisonError::into_inner);
        if state.is_idle() {
            return None;
        }
        mem::swap(buffer, &mut state.text);
        state.is_full = false;
        state.is_writing = true;
        let dropped = mem::take(&mut state.dropped);
        if dropped > 0 {
            let report = match state.reports_as_json {
                true => format!("{{\"dropped_lines\":{dropped}}}\n"),
                false => format!("{dropped} lines were dropped: they could not be written in time\n"),
            };
            buffer.extend_from_slice(report.as_bytes());
        }
        Some(dropped)
    }

    /// The thread. If the sink fails, it goes on with later lines: a full disk may have room again.
    fn write_all(&self, mut sink: impl Write) {
        let mut buffer = Vec::new();
        while let Some(reported) = self.take(&mut buffer) {
            let rest = write(&mut sink, &buffer);
            let mut state = self.lock();
            if !rest.is_empty() {
                // The report is the last of the lines.
                state.dropped += lines_in(rest) - usize::from(reported > 0) + reported;
            }
            state.is_stuck &= !rest.is_empty();
            state.is_writing = false;
            self.changed.notify_all();
        }
    }
}

/// Writes all of `bytes`, and leaves nothing in a buffer of the sink. If the sink fails, returns the rest.
fn write<'a>(sink: &mut impl Write, mut bytes: &'a [u8]) -> &'a [u8] {
    loop {
        let result = if bytes.is_empty() { sink.flush().map(|()| 0) } else { sink.write(bytes) };
        match result {
            Ok(0) => return bytes,
            Ok(count) => bytes = &bytes[count..],
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => thread::sleep(PAUSE),
            Err(_) => return bytes,
        }
    }
}

fn lines_in(bytes: &[u8]) -> usize {
    bytes.iter().filter(|&&byte| byte == b'\n').count()
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{self, Receiver, Sender};

    use super::*;

    /// A sink that takes bytes when the test says so, and passes them to it. With `Err`, it fails.
    struct Gate(Receiver<io::Result<()>>, Sender<Vec<u8>>);

    impl Write for Gate {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.recv().map_err(io::Error::other)??;
            self.1.send(bytes.to_vec()).map_err(io::Error::other)?;
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn gate() -> (Output, Sender<io::Result<()>>, Receiver<Vec<u8>>) {
        let (open, opened) = mpsc::channel();
        let (written, read) = mpsc::channel();
        (Output::from(Gate(opened, written)), open, read)
    }

    /// Waits until the thread has taken the queue, and so has room for a new one.
    fn await_take(output: &Output) {
        while !output.0.0.lock().text.is_empty() {
            thread::yield_now();
        }
    }

    #[test]
    fn lines_that_do_not_fit_are_dropped_and_counted() {
        let (output, open, read) = gate();
        output.write("first\n");
        await_take(&output);
        let line = format!("{}\n", "x".repeat(1023));
        for _ in 0..LONGEST_QUEUE / line.len() {
            output.write(&line);
        }
        for _ in 0..3 {
            output.write("one\n");
        }
        open.send(Ok(())).unwrap();
        assert_eq!(read.recv().unwrap(), b"first\n");
        await_take(&output);
        output.write("last\n");
        open.send(Ok(())).unwrap();
        let lines = String::from_utf8(read.recv().unwrap()).unwrap();
        let report = "3 lines were dropped: they could not be written in time\n";
        assert!(lines.starts_with(&line) && lines.len() == LONGEST_QUEUE + report.len() && lines.ends_with(report));
        open.send(Ok(())).unwrap();
        assert_eq!(read.recv().unwrap(), b"last\n");
        output.finish();
        output.write(&line.repeat(2000)); // longer than the queue
        open.send(Ok(())).unwrap();
        assert_eq!(read.recv().unwrap(), b"2000 lines were dropped: they could not be written in time\n");
    }

    #[test]
    fn lines_of_a_failed_write_are_counted() {
        let (output, open, read) = gate();
        for (line, result) in
            [("1\n2\n", Err(ErrorKind::StorageFull)), ("3\n", Err(ErrorKind::StorageFull)), ("4\n", Ok(()))]
        {
            output.write(line);
            open.send(result.map_err(io::Error::from)).unwrap();
            output.finish();
        }
        assert_eq!(read.recv().unwrap(), b"4\n3 lines were dropped: they could not be written in time\n");
    }

    #[test]
    fn a_sink_that_takes_nothing_is_awaited_once() {
        let (output, open, read) = gate();
        output.write("1\n");
        output.finish();
        assert!(output.0.0.lock().is_stuck);
        output.finish(); // returns at once
        open.send(Ok(())).unwrap();
        assert_eq!(read.recv().unwrap(), b"1\n");
    }

    #[test]
    fn the_thread_ends_after_its_last_line() {
        let (output, open, read) = gate();
        output.write("1\n");
        drop(output);
        open.send(Ok(())).unwrap();
        assert_eq!(read.recv().unwrap(), b"1\n");
        assert!(read.recv().is_err());
    }
}
