//! Event streams. Reading a stream whole and reading it in pieces must agree. An encoded event must be read back, with
//! LF for each line end in its data.

#![no_main]

use libfuzzer_sys::fuzz_target;
use overwire::sse::{Event, Reader, comment, event};

fuzz_target!(|bytes: &[u8]| {
    let whole = read(bytes, bytes.len());
    for size in [1, 2, 3, 7] {
        assert_eq!(read(bytes, size), whole, "in pieces of {size}");
    }
    let text = String::from_utf8_lossy(bytes);
    let mut parts = text.splitn(3, '|');
    let (data, name, id) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default(), parts.next());
    round_trip(id, name, data);
});

/// The events of `stream`, which arrives in pieces of `size`, and the state of the reader.
fn read(stream: &[u8], size: usize) -> (Vec<Event>, String, Option<std::time::Duration>) {
    let mut reader = Reader::default();
    let events = stream.chunks(size.max(1)).flat_map(|piece| reader.read(piece)).collect();
    (events, reader.last_event_id().to_owned(), reader.retry())
}

fn round_trip(id: Option<&str>, name: &str, data: &str) {
    let mut stream = comment(data);
    stream.extend(event(id, name, data));
    let in_one_line = |text: &str| text.replace(['\r', '\n', '\0'], "");
    let expected = Event {
        id: id.map(in_one_line).unwrap_or_default(),
        name: Some(in_one_line(name)).filter(|name| !name.is_empty()).unwrap_or("message".to_owned()),
        data: data.replace("\r\n", "\n").replace('\r', "\n"),
    };
    assert_eq!(read(&stream, stream.len()).0, [expected]);
}
