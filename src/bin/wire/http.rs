//! Polling, streaming and server-sent events: the next request, and the cursor in it.

use std::ops::RangeInclusive;
use std::thread;
use std::time::{Duration, Instant};

use overwire::sse;
use overwire::wire::LinePart;
use serde_json::Value;

use crate::End;
use crate::options::Options;
use crate::session::{Ending, MAX_SET_WAIT, MAX_WAIT, Session, failed, seconds};
use crate::view::{Seen, View};

const EVENT_SOURCE: &str = "WHATWG HTML, section 9.2.3";

/// The wait before reconnecting to an event stream, unless the stream sets another.
const RECONNECTION_TIME: Duration = Duration::from_secs(3);

/// The bounds of the wait that a stream can set. Without them, one number makes a reader flood the server or sleep
/// forever.
const RECONNECTION_TIMES: RangeInclusive<Duration> = Duration::from_millis(100)..=MAX_SET_WAIT;

/// The longest answer to a poll, in bytes.
const MAX_CONTENT: usize = 16 * 1024 * 1024;

/// Polls, each time after the cursor of the last answer.
pub fn poll(options: &Options, view: &mut View) -> Result<(), End> {
    let mut session = Session::begin(options, view)?;
    let mut url = options.url.clone();
    let mut cursor = None;
    loop {
        let asked = Instant::now();
        let mut answer = Answer::default();
        let ending = session.exchange(&url, &[], view, &mut |seen| answer.note(seen))?;
        match (ending, answer.status) {
            (Ending::Complete, 200..=299) => {
                view.count();
                if view.is_done() {
                    return session.enough(view);
                }
                session.attempt = 0;
                let (has_messages, next) = read_answer(&answer.content);
                // An answer with the same cursor has no news. Without a wait, the polls would never pause.
                let news = has_messages && next.is_some() && next != cursor;
                if let Some(id) = next {
                    url = options.url.with_parameter("last_message_id", &id);
                    cursor = Some(id);
                }
                let rest = options.interval.saturating_sub(asked.elapsed());
                if !news && !rest.is_zero() {
                    view.remark(&format!("no news: waiting {} before asking again", seconds(rest)))?;
                    thread::sleep(rest);
                }
            }
            (ending, status) => session.recover(ending, status, "last_message_id", cursor.as_deref(), view)?,
        }
    }
}

/// Returns whether an answer has messages, and the next cursor: `last_message_id`, or else the id of the last message.
fn read_answer(content: &[u8]) -> (bool, Option<String>) {
    let Ok(answer) = serde_json::from_slice::<Value>(content) else { return (false, None) };
    let last = answer["messages"].as_array().and_then(|messages| messages.last());
    let id = answer["last_message_id"].as_str().or_else(|| last?["id"].as_str());
    (last.is_some(), id.map(str::to_owned))
}

/// Reads an endless answer, one line of JSON a message.
pub fn stream(options: &Options, view: &mut View) -> Result<(), End> {
    let mut session = Session::begin(options, view)?;
    let (mut url, mut cursor) = (options.url.clone(), None);
    loop {
        let (mut answer, mut news) = (Answer::default(), false);
        let ending = session.exchange(&url, &[], view, &mut |seen| {
            if let Seen::Line(LinePart::Json(line)) = seen
                && answer.status == 200
            {
                news = true;
                let message = serde_json::from_slice::<Value>(line).unwrap_or_default();
                cursor = message["id"].as_str().map(str::to_owned).or(cursor.take());
            }
            answer.note_head(seen)
        })?;
        if ending == Ending::Enough {
            return session.enough(view);
        }
        if let Some(id) = &cursor {
            url = options.url.with_parameter("last_message_id", id);
        }
        if news {
            session.attempt = 0;
        }
        if ending == Ending::Complete && (200..300).contains(&answer.status) && !options.reconnect {
            return Ok(view.remark("the answer has ended")?);
        }
        session.recover(ending, answer.status, "last_message_id", cursor.as_deref(), view)?;
    }
}

/// Reads an event stream as a browser's `EventSource` does (WHATWG HTML, section 9.2.3).
pub fn sse(options: &Options, view: &mut View) -> Result<(), End> {
    let mut session = Session::begin(options, view)?;
    let mut reader = sse::Reader::default();
    reader.read(format!("id: {}\n\n", options.last_event_id).as_bytes());
    loop {
        reader.reconnect();
        let last_event_id = resumable_id(&reader).to_owned();
        let (mut answer, mut news) = (Answer::default(), false);
        let mut fields = vec![("Accept", "text/event-stream")];
        if !last_event_id.is_empty() {
            fields.push(("Last-Event-ID", &last_event_id));
        }
        let ending = session.exchange(&options.url, &fields, view, &mut |seen| {
            match seen {
                Seen::Head if answer.status == 200 && !answer.is_event_stream() => {
                    let found = String::from_utf8_lossy(&answer.content_type);
                    return Err(failed(
                        &format!("expected Content-Type text/event-stream, not \"{found}\""),
                        EVENT_SOURCE,
                    ));
                }
                Seen::Content(content) if answer.status == 200 => news |= !reader.read(content).is_empty(),
                _ => {}
            }
            answer.note_head(seen)
        })?;
        match (&ending, answer.status) {
            (Ending::Enough, _) => return session.enough(view),
            (Ending::Complete, 204) => return Ok(view.remark("204 ends it: a browser does not reconnect either")?),
            (Ending::Complete, 200) if !options.reconnect => return Ok(view.remark("the answer has ended")?),
            (_, 0 | 200) => {}
            (_, status) => {
                return Err(failed(&format!("the server answered {status}, and not 200 or 204"), EVENT_SOURCE));
            }
        }
        if news {
            session.attempt = 0;
        } else if answer.status == 0 {
            session.attempt += 1;
        }
        let wait = reconnection_time(reader.retry(), session.attempt);
        // A stream without an event counts as a failure, from the next wait on.
        session.attempt += u32::from(!news && answer.status == 200);
        let why = ending.why(answer.status);
        if let Some(retry) = reader.retry().filter(|retry| retry > RECONNECTION_TIMES.end()) {
            let (asked, most) = (seconds(retry), seconds(*RECONNECTION_TIMES.end()));
            view.remark(&format!("the stream asked to wait {asked}: {most} is the most"))?;
        }
        let id = resumable_id(&reader);
        if id != reader.last_event_id() {
            let sentence = "the last event ID is not sent: no field value holds control characters";
            view.remark(&format!("{sentence} (RFC 9110, section 5.5)"))?;
        }
        session.wait(&why, wait, "Last-Event-ID", Some(id).filter(|id| !id.is_empty()), view)?;
    }
}

/// The last event ID, or an empty one if it cannot be a field value (RFC 9110, section 5.5).
fn resumable_id(reader: &sse::Reader) -> &str {
    let id = reader.last_event_id();
    if id.bytes().any(|byte| byte.is_ascii_control() && byte != b'\t') { "" } else { id }
}

/// The wait after `failures` consecutive failures. The first wait is the one that the stream set. Then each failure
/// doubles the wait.
fn reconnection_time(retry: Option<Duration>, failures: u32) -> Duration {
    let (least, most) = RECONNECTION_TIMES.into_inner();
    let time = retry.unwrap_or(RECONNECTION_TIME).clamp(least, most);
    let Some(doublings) = failures.checked_sub(1) else { return time };
    let time = time.max(RECONNECTION_TIME);
    time.saturating_mul(1 << doublings.min(16)).min(time.max(MAX_WAIT))
}

/// The parts of an answer that decide on the next request.
#[derive(Debug, Default)]
struct Answer {
    status: u16,
    content_type: Vec<u8>,
    content: Vec<u8>,
}

impl Answer {
    fn note_head(&mut self, seen: &Seen) -> Result<(), End> {
        match seen {
            Seen::Status(..200) => {} // an interim response
            Seen::Status(status) => *self = Answer { status: *status, ..Answer::default() },
            Seen::Field(name, value) if name == "content-type" => self.content_type.clone_from(value),
            _ => {}
        }
        Ok(())
    }

    fn note(&mut self, seen: &Seen) -> Result<(), End> {
        if let Seen::Content(content) = seen {
            if self.content.len() + content.len() > MAX_CONTENT {
                return Err(End::Failed(format!("the answer is longer than {MAX_CONTENT} bytes")));
            }
            self.content.extend_from_slice(content);
        }
        self.note_head(seen)
    }

    fn is_event_stream(&self) -> bool {
        let essence = self.content_type.split(|&byte| byte == b';').next().unwrap_or_default();
        essence.trim_ascii().eq_ignore_ascii_case(b"text/event-stream")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_for_empty_streams_grow() {
        let times = |retry: Option<u64>| {
            let time = |failures| reconnection_time(retry.map(Duration::from_millis), failures).as_secs_f64();
            [0, 1, 2, 4, 5, u32::MAX].map(time)
        };
        assert_eq!(times(None), [3.0, 3.0, 6.0, 24.0, 30.0, 30.0]);
        assert_eq!(times(Some(0)), [0.1, 3.0, 6.0, 24.0, 30.0, 30.0]);
        assert_eq!(times(Some(10_000)), [10.0, 10.0, 20.0, 30.0, 30.0, 30.0]);
        assert_eq!(times(Some(60_000)), [60.0; 6]);
        assert_eq!(times(Some(u64::MAX)), [300.0; 6]);
    }
}
