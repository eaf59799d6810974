//! The log of a disk. Records that are decoded must be encoded to what decodes to the same, and a record that lacks its
//! end must be partial or damaged. A segment whose records have right lengths and checksums, but any payloads, must be
//! read or refused. What is read must be the same at the second time, and nothing in the folder may change.

#![no_main]

use std::path::Path;
use std::{env, fs, process};

use libfuzzer_sys::fuzz_target;
use overwire::Parse;
use overwire::journal::Retention;
use overwire::journal::disk::{Record, Recovery, check, checksum, print};

/// Few and short messages, so that an input reaches the bounds.
const RETENTION: Retention = Retention { messages: 3, bytes: 300, time: None, rooms: 2 };

fuzz_target!(|bytes: &[u8]| {
    decode_all(bytes);
    let framed: Vec<u8> = bytes.split(|&byte| byte == b'\n').flat_map(frame).collect();
    decode_all(&framed);
    let folder = env::temp_dir().join(format!("overwire-fuzz-{}", process::id()));
    fs::create_dir_all(&folder).unwrap();
    let segment = folder.join("00000001.log");
    for end in [&b""[..], &bytes[..bytes.len().min(40)]] {
        let content = [&frame(b"overwire-log 1 1 0"), &framed[..], end].concat();
        fs::write(&segment, &content).unwrap();
        assert_eq!(read(&folder), read(&folder));
        assert_eq!(fs::read(&segment).unwrap(), content);
    }
    fs::remove_dir_all(&folder).unwrap();
});

/// Returns a record with this payload.
fn frame(payload: &[u8]) -> Vec<u8> {
    let length = format!("{:08x}", payload.len());
    let sum = checksum(&[length.as_bytes(), payload]);
    [format!("{length} {sum:08x} ").as_bytes(), payload, b"\n"].concat()
}

fn decode_all(mut bytes: &[u8]) {
    while let Ok(Parse::Complete { value, used }) = Record::decode(bytes) {
        let mut encoded = Vec::new();
        value.encode(&mut encoded);
        assert_eq!(Record::decode(&encoded), Ok(Parse::Complete { value, used: encoded.len() }));
        for end in [0, 1, used / 2, used - 1] {
            assert!(!matches!(Record::decode(&bytes[..end]), Ok(Parse::Complete { .. })), "{end} of {used} bytes");
        }
        bytes = &bytes[used..];
    }
}

/// Reads a log as a server does at its start, and as `overwire log` does. Returns all as text.
fn read(folder: &Path) -> String {
    let mut printed = Vec::new();
    let (all, room) = (print(folder, None, &mut printed), print(folder, Some("tea"), &mut printed));
    let checked = check(folder, &mut printed);
    let recovery = match Recovery::read(folder, RETENTION) {
        Err(error) => {
            assert!(all.is_err() && checked.is_err(), "{error}: the server refuses what `overwire log` prints");
            return error.to_string();
        }
        Ok(recovery) => recovery,
    };
    assert!(all.is_ok() && room.is_ok() && checked.is_ok(), "{all:?}, {checked:?}: the server reads it");
    let changes = recovery.changes().map(|change| format!("{:?}", change.expect("a live message is whole")));
    let (mut changes, keys): (Vec<_>, Vec<_>) = (changes.collect(), recovery.keys().collect());
    changes.sort(); // the logs come in any order
    format!("{:?}\n{changes:?}\n{keys:?}\n{}", recovery.cut(), String::from_utf8_lossy(&printed))
}
