use super::*;

/// The bytes of one record of each kind, and the record.
fn vectors() -> Vec<(&'static str, Record<'static>)> {
    let room = Log { kind: LogKind::Room, name: "tea".into() };
    let start: Cursor = "1f0c2a9e-8b4d-8e17-b5c3-7f0000000000".parse().unwrap();
    let cursor: Cursor = "1f0c2a9e-8b4d-8e17-b5c3-7f000000002a".parse().unwrap();
    let key = Key { digest: std::array::from_fn(|at| at as u8), fingerprint: [0xff; 8] };
    let (time, body) = (1_764_386_305_023, r#"{"sender":"ada","text":"hello"}"#);
    vec![
        ("00000018 4e0b762f overwire-log 1 7 8388712\n", Record::Segment { number: 7, previous: 8_388_712 }),
        ("00000006 c1d6b085 synced\n", Record::Synced),
        (
            "00000035 481c3021 start room \"tea\" 1f0c2a9e-8b4d-8e17-b5c3-7f0000000000\n",
            Record::Start { log: room.clone(), cursor: start },
        ),
        (
            "00000068 cd7e0c7b message room \"tea\" 1f0c2a9e-8b4d-8e17-b5c3-7f000000002a 1764386305.023 - \
             {\"sender\":\"ada\",\"text\":\"hello\"}\n",
            Record::Message { log: room.clone(), cursor, time, key: None, body },
        ),
        (
            "0000008c 10c03776 message mailbox \"a\\\"\\\\\\nb\" 1f0c2a9e-8b4d-8e17-b5c3-7f000000002a 1764386305.023 \
             000102030405060708090a0b0c0d0e0f:ffffffffffffffff {\"text\":\"\"}\n",
            Record::Message {
                log: Log { kind: LogKind::Mailbox, name: "a\"\\\nb".into() },
                cursor,
                time,
                key: Some(key),
                body: r#"{"text":""}"#,
            },
        ),
        (
            "00000069 e0801fd3 key 000102030405060708090a0b0c0d0e0f:ffffffffffffffff \
             1f0c2a9e-8b4d-8e17-b5c3-7f000000002a 1764386305.023\n",
            Record::Key { key, cursor, time },
        ),
        ("00000011 73fdb459 remove room \"tea\"\n", Record::Remove { log: room.clone() }),
        (
            "0000004c 2d575a13 position \"\u{e9}\" room \"tea\" 1f0c2a9e-8b4d-8e17-b5c3-7f000000002a 1764386305.023\n",
            Record::Position { client: "\u{e9}".into(), log: room, cursor, time },
        ),
    ]
}

fn encode(record: &Record<'_>) -> Vec<u8> {
    let mut bytes = Vec::new();
    record.encode(&mut bytes);
    bytes
}

#[test]
fn vectors_are_encoded_and_decoded() {
    for (bytes, record) in vectors() {
        assert_eq!(String::from_utf8(encode(&record)).unwrap(), bytes);
        let used = bytes.len();
        assert_eq!(Record::decode(bytes.as_bytes()), Ok(Parse::Complete { value: record.clone(), used }));
        let followed = [bytes.as_bytes(), b"00000006 c1d6b085 synced\n"].concat();
        assert_eq!(Record::decode(&followed), Ok(Parse::Complete { value: record, used }));
    }
}

#[test]
fn a_record_that_is_cut_anywhere_is_incomplete() {
    for (bytes, _) in vectors() {
        for length in 0..bytes.len() {
            assert_eq!(Record::decode(&bytes.as_bytes()[..length]), Ok(Parse::Partial), "{bytes:?} {length}");
        }
    }
}

#[test]
fn a_flipped_bit_is_found_in_each_byte() {
    for (bytes, _) in vectors() {
        let mut bytes = bytes.as_bytes().to_vec();
        for at in 0..bytes.len() {
            for bit in 0..8 {
                bytes[at] ^= 1 << bit;
                let decoded = Record::decode(&bytes);
                // A longer length may ask for more bytes. They are judged when they are there.
                let is_partial = decoded == Ok(Parse::Partial) && at < 8;
                assert!(is_partial || decoded.is_err(), "{at} {bit} {}", String::from_utf8_lossy(&bytes));
                let followed = [&bytes[..], &[b'0'; 512]].concat();
                assert!(!is_partial || !matches!(Record::decode(&followed), Ok(Parse::Complete { .. })));
                bytes[at] ^= 1 << bit;
            }
        }
    }
}

#[test]
fn damage_is_named() {
    let sum = |payload: &str| checksum(&[format!("{:08x}", payload.len()).as_bytes(), payload.as_bytes()]);
    let record = |payload: &str| format!("{:08x} {:08x} {payload}\n", payload.len(), sum(payload));
    for (bytes, damage) in [
        ("\0".to_owned(), Damage::Header),
        ("0000000G".to_owned(), Damage::Header),
        ("0000000A ".to_owned(), Damage::Header),
        ("00000006c".to_owned(), Damage::Header),
        ("04000001".to_owned(), Damage::TooLong(0x400_0001)),
        ("00000006 c1d6b085 synced\r".to_owned(), Damage::NoLineEnd),
        ("00000006 c1d6b084 synced\n".to_owned(), Damage::Checksum { written: 0xc1d6_b084, found: 0xc1d6_b085 }),
        (record(""), Damage::Unknown),
        (record("synced 1"), Damage::Unknown),
        (record("overwire-log 2 7 0"), Damage::Unknown),
        (record("overwire-log 1 4294967296 0"), Damage::Unknown),
        (record("remove room tea"), Damage::Unknown),
        (record("remove room \"tea"), Damage::Unknown),
        (record("remove room \"\\x\""), Damage::Unknown),
        (record("remove house \"tea\""), Damage::Unknown),
        (record("start room \"tea\" 1"), Damage::Unknown),
        (record("key 0:0 1f0c2a9e-8b4d-8e17-b5c3-7f0000000000 1.000"), Damage::Unknown),
    ] {
        assert_eq!(Record::decode(bytes.as_bytes()), Err(damage), "{bytes:?}");
        assert!(damage.to_string().starts_with("expected "));
    }
}
