//! Tests of the splitter: whole, byte by byte, and at random.

use super::*;

const C: Role = Role::Client;
const S: Role = Role::Server;
const GET: &[u8] = b"GET / HTTP/1.1\r\nHost: h\r\n\r\n";
const UPGRADE: &[u8] = b"GET /ws HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n";
const SWITCHED: &[u8] = b"HTTP/1.1 101 OK\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n";
const OK: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi";

fn head(bytes: &[u8]) -> Span {
    Span::Head { bytes: bytes.to_vec(), passed: 0 }
}

fn more(bytes: &[u8]) -> Span {
    Span::More(bytes.to_vec())
}

fn stray(bytes: &[u8]) -> Span {
    Span::Stray(bytes.to_vec())
}

/// Joins what was only returned in several parts.
fn join(spans: impl IntoIterator<Item = Span>) -> Vec<Span> {
    let mut joined: Vec<Span> = Vec::new();
    for span in spans {
        match (joined.last_mut(), span) {
            (Some(Span::More(last)), Span::More(bytes)) | (Some(Span::Stray(last)), Span::Stray(bytes)) => {
                last.extend(bytes);
            }
            (_, span) => joined.push(span),
        }
    }
    joined
}

/// Splits the same bytes whole and byte by byte, and expects the same.
#[track_caller]
fn check(said: &[(Role, &[u8])], client: &[Span], server: &[Span]) {
    for size in [usize::MAX, 1, 3] {
        let mut splitter = Splitter::default();
        let (mut of_client, mut of_server) = (Vec::new(), Vec::new());
        for (from, bytes) in said {
            for bytes in bytes.chunks(size) {
                let spans = splitter.read(*from, bytes);
                if *from == S { &mut of_server } else { &mut of_client }.extend(spans);
                of_client.extend(splitter.read(C, b""));
            }
        }
        assert_eq!((join(of_client), join(of_server)), (client.to_vec(), server.to_vec()), "pieces of {size}");
    }
}

#[test]
fn each_answer_belongs_to_its_request() {
    let post = b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\n\r\n";
    let empty = b"HTTP/1.1 204 No Content\r\n\r\n";
    check(
        &[(C, GET), (C, &[post, &b"abc"[..], GET].concat()), (S, &[OK, empty].concat()), (S, OK)],
        &[head(GET), Span::End, head(post), more(b"abc"), Span::End, head(GET), Span::End],
        &[more(OK), Span::End, more(empty), Span::End, more(OK), Span::End],
    );
}

#[test]
fn chunks_and_trailers_belong_to_their_request() {
    let post = b"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n";
    let content = b"3;x=y\r\nabc\r\n0\r\nTrailer: t\r\n\r\n";
    check(&[(C, post), (C, content)], &[head(post), more(content), Span::End], &[]);
}

#[test]
fn an_interim_response_belongs_to_the_answer() {
    let interim = b"HTTP/1.1 100 Continue\r\n\r\n";
    check(&[(C, GET), (S, interim), (S, OK)], &[head(GET), Span::End], &[more(&[interim, OK].concat()), Span::End]);
}

#[test]
fn all_that_follows_a_101_belongs_to_it() {
    let frames = b"\x81\x85\x01\x02\x03\x04abcde\x81\x81\x01";
    check(
        &[(C, UPGRADE), (S, SWITCHED), (C, frames), (S, b"\x81\x02hi\xff\xff"), (C, GET)],
        &[head(UPGRADE), Span::End, more(&[frames, GET].concat())],
        &[more(&[SWITCHED, b"\x81\x02hi\xff\xff"].concat())],
    );
}

#[test]
fn early_frames_are_not_held_back() {
    let mut splitter = Splitter::default();
    let spans = splitter.read(C, &[UPGRADE, b"\x81\x80\x01\x02\x03\x04"].concat());
    assert_eq!(spans, [head(UPGRADE), Span::End, more(b"\x81\x80\x01\x02\x03\x04")]);
    assert_eq!(splitter.read(S, SWITCHED), [more(SWITCHED)]);
    assert_eq!(splitter.read(C, b""), []);
    assert_eq!(splitter.read(C, b"\x81\x80\x01"), [more(b"\x81\x80\x01")]);
}

#[test]
fn a_refused_upgrade_goes_on_with_requests() {
    check(
        &[(C, UPGRADE), (S, OK), (C, GET), (S, OK)],
        &[head(UPGRADE), Span::End, head(GET), Span::End],
        &[more(OK), Span::End, more(OK), Span::End],
    );
}

#[test]
fn content_without_length_ends_with_the_connection() {
    let mut splitter = Splitter::default();
    splitter.read(C, GET);
    assert_eq!(splitter.read(S, b"HTTP/1.1 200 OK\r\n\r\nabc"), [more(b"HTTP/1.1 200 OK\r\n\r\nabc")]);
    assert_eq!((splitter.end(S), splitter.read(S, b"x")), (vec![Span::End], vec![stray(b"x")]));
}

#[test]
fn a_head_is_held_back_until_it_is_complete() {
    let mut splitter = Splitter::default();
    let (front, rest) = GET.split_at(10);
    assert_eq!((splitter.read(C, front), splitter.is_waiting()), (vec![], true));
    assert_eq!((splitter.read(C, rest), splitter.is_waiting()), (vec![head(GET), Span::End], false));
}

#[test]
fn a_slow_head_is_still_a_head() {
    let mut splitter = Splitter::default();
    splitter.read(C, &GET[..4]);
    assert_eq!(splitter.stop_waiting(), [stray(&GET[..4])]);
    assert_eq!(splitter.read(C, &GET[4..10]), [stray(&GET[4..10])]);
    let slow = Span::Head { bytes: GET.to_vec(), passed: 10 };
    assert_eq!(splitter.read(C, &GET[10..]), [slow, Span::End]);
    assert_eq!(splitter.read(C, &GET[..4]), []);
}

#[test]
fn bytes_that_are_not_http_pass_as_they_are() {
    let bytes = b"\x16\x03\x01\n\0\0 hello\n\xff";
    check(&[(C, bytes), (S, bytes)], &[stray(bytes)], &[stray(bytes)]);
    let broken = b"nonsense\r\n\r\n";
    check(&[(C, GET), (S, broken), (S, OK)], &[head(GET), Span::End], &[more(&[broken, OK].concat())]);
    // A second request that is malformed.
    check(
        &[(C, &[GET, broken].concat()), (S, OK), (S, OK)],
        &[head(GET), Span::End, stray(broken)],
        &[more(OK), Span::End, stray(OK)],
    );
}

/// Whatever is sent, in whatever pieces, comes out as it was: once, and in order.
#[test]
fn no_byte_is_lost_or_repeated() {
    let parts: [&[u8]; 12] = [
        GET,
        UPGRADE,
        SWITCHED,
        OK,
        b"\r\n",
        b"\x81\x02hi",
        b"nonsense",
        b"HTTP/1.1 100 Continue\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n",
    ];
    let mut state = 1u64;
    let mut roll = |sides: usize| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as usize % sides
    };
    for _ in 0..3000 {
        let mut splitter = Splitter::default();
        let (mut sent, mut came) = ([Vec::new(), Vec::new()], [Vec::new(), Vec::new()]);
        let take = |came: &mut Vec<u8>, spans: Vec<Span>| {
            for span in spans {
                match span {
                    Span::Head { bytes, passed } => came.extend_from_slice(&bytes[passed..]),
                    span => came.extend_from_slice(span.bytes()),
                }
            }
        };
        for _ in 0..roll(12) {
            let (from, part) = ([C, S][roll(2)], parts[roll(parts.len())]);
            let part = &part[..part.len() - if roll(4) == 0 { roll(part.len()) } else { 0 }];
            for piece in part.chunks(1 + roll(40)) {
                take(&mut came[usize::from(from == S)], splitter.read(from, piece));
                take(&mut came[0], splitter.read(C, b""));
                if roll(20) == 0 && splitter.is_waiting() {
                    take(&mut came[0], splitter.stop_waiting());
                }
            }
            sent[usize::from(from == S)].extend_from_slice(part);
        }
        for (at, from) in [C, S].into_iter().enumerate() {
            take(&mut came[at], splitter.end(from));
        }
        take(&mut came[0], splitter.read(C, b""));
        assert_eq!(
            came.each_ref().map(|bytes| String::from_utf8_lossy(bytes)),
            sent.each_ref().map(|bytes| String::from_utf8_lossy(bytes))
        );
    }
}

#[test]
fn a_head_that_is_cut_off_passes_at_the_end() {
    let mut splitter = Splitter::default();
    splitter.read(C, &GET[..10]);
    assert_eq!(splitter.end(C), [stray(&GET[..10])]);
    assert_eq!(splitter.end(C), []);
}
