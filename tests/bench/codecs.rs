//! The cost of one operation of each codec. `bench-codecs` lists the operations with the bytes that they handle.
//! `bench-codecs NAME COUNT` runs one of them COUNT times and prints the nanoseconds of one. `tests/bench/codecs` runs
//! all of them, counts their instructions, and prints a table.

use std::env;
use std::fmt::Debug;
use std::hint::black_box;
use std::process::ExitCode;
use std::time::Instant;

use overwire::http::{self, ChunkedDecoder, LAST_CHUNK, Response};
use overwire::sse::{self, Reader};
use overwire::websocket::{self, Opcode, Receiver, Role};
use overwire::{Limits, Parse};

const KIB: usize = 1024;

const KEY: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];

/// The request of `curl http://localhost:8000/api/messages`.
const CURL: &str =
    "GET /api/messages HTTP/1.1\r\nHost: localhost:8000\r\nUser-Agent: curl/8.14.1\r\nAccept: */*\r\n\r\n";

/// The request of a browser when a page of the same server polls.
const BROWSER: &str = "GET /api/poll?room=general&client_id=c1f0a9&last_message_id=41 HTTP/1.1\r\n\
    Host: localhost:8000\r\n\
    Connection: keep-alive\r\n\
    sec-ch-ua-platform: \"Linux\"\r\n\
    User-Agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 \
    (KHTML, like Gecko) Chrome/140.0.0.0 Safari/537.36\r\n\
    sec-ch-ua: \"Chromium\";v=\"140\", \"Not=A?Brand\";v=\"24\"\r\n\
    sec-ch-ua-mobile: ?0\r\n\
    Accept: application/json\r\n\
    Sec-Fetch-Site: same-origin\r\n\
    Sec-Fetch-Mode: cors\r\n\
    Sec-Fetch-Dest: empty\r\n\
    Referer: http://localhost:8000/\r\n\
    Accept-Encoding: gzip, deflate, br, zstd\r\n\
    Accept-Language: en-GB,en;q=0.9,de;q=0.8\r\n\
    Cookie: theme=dark; session=0f8fad5bd9cb469fa16570867728950e\r\n\r\n";

fn main() -> ExitCode {
    let arguments: Vec<String> = env::args_os().skip(1).map(|word| word.to_string_lossy().into()).collect();
    match &arguments[..] {
        [] => {
            for operation in operations() {
                let bytes = operation.bytes.map_or("-".to_owned(), |bytes| bytes.to_string());
                println!("{} {bytes}", operation.name);
            }
            ExitCode::SUCCESS
        }
        [name, count] => match (operations().into_iter().find(|operation| operation.name == name), count.parse()) {
            (Some(operation), Ok(count @ 1..)) => {
                println!("{:.1}", time(operation, count));
                ExitCode::SUCCESS
            }
            _ => usage(),
        },
        _ => usage(),
    }
}

fn usage() -> ExitCode {
    eprintln!("usage: bench-codecs [NAME COUNT], with a NAME from the list that it prints without arguments");
    ExitCode::from(2)
}

fn time(mut operation: Operation, count: u32) -> f64 {
    let begun = Instant::now();
    (operation.repeat)(count);
    begun.elapsed().as_nanos() as f64 / f64::from(count)
}

struct Operation {
    name: &'static str,
    /// The number of bytes that it handles, if the cost grows with them.
    bytes: Option<usize>,
    repeat: Box<dyn FnMut(u32)>,
}

/// Makes an operation. Its loop is inside the box, so that there is no indirect call in each round: it would cost more
/// than a frame header. The result of a round is freed in that round, so that the cost of its memory counts.
fn operation<T>(name: &'static str, bytes: Option<usize>, mut once: impl FnMut() -> T + 'static) -> Operation {
    let repeat = Box::new(move |count| {
        for _ in 0..count {
            black_box(once());
        }
    });
    Operation { name, bytes, repeat }
}

/// All operations. Their inputs are made before the first round, so that two runs with different counts differ only in
/// their rounds.
fn operations() -> Vec<Operation> {
    let mut all = vec![operation("nothing", None, || ())]; // the loop itself
    all.extend(frames());
    all.extend(messages());
    all.extend(requests_and_responses());
    all.extend(chunks());
    all.extend(events());
    all
}

fn frames() -> Vec<Operation> {
    let header = |name, length| {
        let frame = masked(Opcode::Binary, &vec![0; length]);
        operation(name, None, move || complete(websocket::parse_header(black_box(&frame), Role::Client)))
    };
    let unmask = |name, length| {
        let mut payload = ascii(length).into_bytes();
        operation(name, Some(length), move || websocket::mask(black_box(&mut payload), black_box(KEY), black_box(0)))
    };
    vec![
        header("frame-header-7-bit-length", 16),
        header("frame-header-16-bit-length", KIB),
        header("frame-header-64-bit-length", 64 * KIB),
        unmask("unmask-16-B", 16),
        unmask("unmask-1-KiB", KIB),
        unmask("unmask-64-KiB", 64 * KIB),
    ]
}

fn messages() -> Vec<Operation> {
    let receive = |name, opcode, payload: &[u8]| {
        let frame = masked(opcode, payload);
        let (mut receiver, limit) = (Receiver::new(Role::Client), Limits::default().message);
        operation(name, Some(payload.len()), move || {
            let (_, received) = receiver.receive(black_box(&frame), limit).expect("the frame is valid");
            received.expect("the message is whole")
        })
    };
    let encode = |name, length| {
        let text = ascii(length);
        operation(name, Some(length), move || websocket::text(black_box(&text)))
    };
    let not_ascii = "gr\u{f6}\u{df}er: \u{4e16}\u{754c}".repeat(KIB / 16); // 1, 2 and 3 bytes a character
    let key = b"dGhlIHNhbXBsZSBub25jZQ==";
    vec![
        receive("receive-text-16-B", Opcode::Text, ascii(16).as_bytes()),
        receive("receive-text-1-KiB", Opcode::Text, ascii(KIB).as_bytes()),
        receive("receive-text-64-KiB", Opcode::Text, ascii(64 * KIB).as_bytes()),
        receive("receive-text-1-KiB-not-ascii", Opcode::Text, not_ascii.as_bytes()),
        receive("receive-binary-1-KiB", Opcode::Binary, ascii(KIB).as_bytes()),
        encode("encode-text-16-B", 16),
        encode("encode-text-1-KiB", KIB),
        operation("accept-key", None, move || websocket::accept_key(black_box(key))),
    ]
}

fn requests_and_responses() -> Vec<Operation> {
    let Limits { head, target, .. } = Limits::default();
    let parse = |name, text: &'static str| {
        operation(name, Some(text.len()), move || {
            complete(http::parse_request_head(black_box(text.as_bytes()), head, target))
        })
    };
    let response = Response::text(200, "hello, world\n");
    vec![
        parse("request-head-3-fields", CURL),
        parse("request-head-14-fields", BROWSER),
        operation("response-build", Some(encode(&response).len()), || Response::text(200, black_box("hello, world\n"))),
        operation("response-encode", Some(encode(&response).len()), move || encode(black_box(&response))),
    ]
}

fn chunks() -> Vec<Operation> {
    let chunk = |name, length| {
        let data = ascii(length);
        operation(name, Some(length), move || http::chunk(black_box(data.as_bytes())))
    };
    let mut coded: Vec<u8> = ascii(KIB).as_bytes().chunks(16).flat_map(|data| http::chunk(data).to_vec()).collect();
    coded.extend_from_slice(LAST_CHUNK);
    let mut content = Vec::with_capacity(KIB);
    vec![
        chunk("chunk-16-B", 16),
        chunk("chunk-1-KiB", KIB),
        operation("decode-64-chunks-of-16-B", Some(KIB), move || {
            content.clear();
            let mut decoder = ChunkedDecoder::default();
            decoder.decode(black_box(&coded), &mut content, KIB).expect("the chunks are valid");
            assert!(decoder.is_done());
        }),
    ]
}

fn events() -> Vec<Operation> {
    let encode = |name, data: String| {
        operation(name, Some(data.len()), move || sse::event(Some(black_box("41")), "message", black_box(&data)))
    };
    let read = |name, data: String| {
        let (event, mut reader) = (sse::event(Some("41"), "message", &data), Reader::default());
        operation(name, Some(event.len()), move || reader.read(black_box(&event)))
    };
    let (one, ten) = (ascii(64), vec![ascii(64); 10].join("\n"));
    vec![
        encode("event-1-line", one.clone()),
        encode("event-10-lines", ten.clone()),
        read("read-event-1-line", one),
        read("read-event-10-lines", ten),
    ]
}

/// A frame as a client sends it.
fn masked(opcode: Opcode, payload: &[u8]) -> Vec<u8> {
    let mut frame = Vec::new();
    websocket::encode(&mut frame, opcode, payload, Some(KEY));
    frame
}

/// A response as it is queued in an empty outbox: head and content, in a new buffer.
fn encode(response: &Response) -> Vec<u8> {
    let mut out = Vec::new();
    response.encode_head(&mut out, black_box("Sun, 06 Nov 1994 08:49:37 GMT"), response.framing(), None);
    response.content().parts().for_each(|part| out.extend_from_slice(part));
    out
}

/// `length` bytes of text, a multiple of 16.
fn ascii(length: usize) -> String {
    r#"{"text":"hello"}"#.repeat(length / 16)
}

/// The parsed value. An incomplete or wrong input would measure something else.
fn complete<T: Debug>(parsed: Result<Parse<T>, impl Debug>) -> T {
    match parsed {
        Ok(Parse::Complete { value, .. }) => value,
        other => panic!("the input must be whole and valid: {other:?}"),
    }
}
