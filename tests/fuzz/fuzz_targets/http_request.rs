//! Request heads. Parsing a head whole and parsing each prefix must agree. No accessor of a request may panic.

#![no_main]

use libfuzzer_sys::fuzz_target;
use overwire::Parse;
use overwire::http::{Request, RequestError, RequestHead, parse_request_head};

const MAX_HEAD: usize = 1024;
const MAX_TARGET: usize = 128;

fuzz_target!(|bytes: &[u8]| {
    let whole = parse(bytes);
    for end in 0..bytes.len() {
        agree(&parse(&bytes[..end]), &whole, end);
    }
    if let Ok(Parse::Complete { value: head, used }) = whole {
        assert!(used <= MAX_HEAD);
        look_at(&Request::new(head, bytes.to_vec(), used), &bytes[used..]);
    }
});

fn parse(bytes: &[u8]) -> Result<Parse<RequestHead>, RequestError> {
    parse_request_head(bytes, MAX_HEAD, MAX_TARGET)
}

/// Checks the result for the first `end` bytes against the result for all bytes.
fn agree(
    front: &Result<Parse<RequestHead>, RequestError>,
    whole: &Result<Parse<RequestHead>, RequestError>,
    end: usize,
) {
    match (front, whole) {
        (Ok(Parse::Partial), Ok(Parse::Complete { used, .. })) => assert!(end < *used, "{end} bytes are a whole head"),
        (Ok(Parse::Partial), _) => {}
        (Err(early), Err(late)) => assert!(early == late || depends_on_length(*early), "{early:?}, then {late:?}"),
        (Ok(Parse::Complete { value: a, used: m }), Ok(Parse::Complete { value: b, used: n })) => {
            assert_eq!((m, format!("{a:?}")), (n, format!("{b:?}")), "after {end} bytes");
        }
        _ => panic!("{front:?} after {end} bytes, and then {whole:?}"),
    }
}

/// A head that is both too long and malformed may be refused for either reason.
fn depends_on_length(error: RequestError) -> bool {
    matches!(error, RequestError::HeadTooLong(_) | RequestError::TargetTooLong(_))
}

fn look_at(request: &Request, content: &[u8]) {
    assert_eq!(request.content(), content);
    assert!(request.target().len() <= MAX_TARGET);
    assert!(!request.path().contains('\0'));
    for (name, _) in request.query() {
        assert!(request.parameter(&name).is_some());
    }
    for (name, _) in request.fields() {
        assert!(request.field(name).is_some());
        assert!(request.elements(name).all(|element| !element.is_empty()));
    }
    let host = request.host().unwrap_or_default();
    assert!(host.starts_with(request.host_name().unwrap_or_default()));
}
