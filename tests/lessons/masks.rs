//! Masks for what differs from run to run: dates, ids, secrets, checksums, ports, times, amounts of memory, shares of
//! waits, plots. Both sides of a comparison are masked.

use std::collections::HashMap;

/// The ids of one side in order of appearance. The first id of one side stands for the first of the other, and an
/// id that appears again must be the same on both sides.
#[derive(Default)]
pub struct Ids(HashMap<String, usize>);

impl Ids {
    fn name(&mut self, id: &[char]) -> String {
        let next = self.0.len() + 1;
        format!("<id {}>", self.0.entry(id.iter().collect()).or_insert(next))
    }
}

/// Masks a line. `mask_keys` says whether the keys of a WebSocket handshake are random.
pub fn masked(line: &str, mask_keys: bool, ids: &mut Ids) -> String {
    let line = line.trim_end();
    let mut line = mask_time_column(line);
    for field in ["Date: ", "User-Agent: "] {
        line = mask_value(line, field);
    }
    if mask_keys {
        line = mask_value(mask_value(line, "Sec-WebSocket-Key: "), "Sec-WebSocket-Accept: ");
    }
    line = mask_checks(mask_deploy(line));
    let waits_for_disk = line.contains(" waits"); // its times depend on the disk
    let characters: Vec<char> = line.chars().collect();
    let (mut out, mut at) = (String::new(), 0);
    while at < characters.len() {
        let rest = &characters[at..];
        let begins = at == 0 || !characters[at - 1].is_alphanumeric();
        if begins && is_uuid(rest) {
            out += &ids.name(&rest[..36]);
            at += 36;
            continue;
        }
        if begins && is_secret(rest) {
            out += &ids.name(&rest[..40]);
            at += 40;
            continue;
        }
        if let Some((length, mask)) = number(rest).filter(|_| begins) {
            // In a table, a shorter number has more spaces before it.
            while out.ends_with("  ") {
                out.pop();
            }
            out += if waits_for_disk && matches!(mask, "<short>" | "<seconds>") { "<time>" } else { mask };
            at += length;
        } else {
            out.push(characters[at]);
            at += 1;
        }
    }
    mask_ports(&out)
}

/// Masks the time in `  0.012 > `, a line of `wire`.
fn mask_time_column(line: &str) -> String {
    let trimmed = line.trim_start();
    let number = trimmed.split(' ').next().unwrap_or_default();
    let is_time = number.split_once('.').is_some_and(|(whole, part)| {
        part.len() == 3 && !whole.is_empty() && whole.bytes().chain(part.bytes()).all(|byte| byte.is_ascii_digit())
    });
    match trimmed.get(number.len()..) {
        Some(rest) if is_time && rest.trim_start().starts_with(['>', '<', '*']) => format!("<time>{rest}"),
        _ => line.to_owned(),
    }
}

fn mask_value(line: String, field: &str) -> String {
    match line.find(field) {
        Some(at) => line[..at + field.len()].to_owned() + "<value>",
        None => line,
    }
}

/// Masks what differs between two replacements of a server: the plot, its sums, and the numbers of processes. The time
/// that a client is told to wait is random, unless it is that of all. Times depend on the machine.
fn mask_deploy(line: String) -> String {
    let number =
        |text: &str| text.trim_start().split(|character: char| !character.is_ascii_digit()).next().unwrap().len();
    if line.starts_with("       +---")
        || line.split_once(" |").is_some_and(|(label, _)| number(label) > 0 && label.len() == 6)
    {
        return "<plot>".to_owned();
    }
    let is_some = |name: &str| line.split_once(name).is_some_and(|(_, rest)| !rest.starts_with('0'));
    match () {
        () if line.starts_with("missing: ") && is_some("refused: ") => mask_value(line, "refused: "),
        () if line.starts_with("slowest answer: ") => mask_value(line, "slowest answer: "),
        () if line.starts_with("all are back after ") => mask_value(line, "all are back after "),
        () if line.starts_with("the old process has ended, ") => mask_value(line, "the old process has ended, "),
        () if line.starts_with("retry: ") && line != "retry: 2000" => mask_value(line, "retry: "),
        () => match line.split_once("\"process\":") {
            Some((before, after)) => format!("{before}\"process\":<number>{}", &after[number(after)..]),
            None => line,
        },
    }
}

/// Masks what is random in a log: the checksum of a record, the numbers of a cursor, and the time of a message. Masks the
/// id of an access key.
fn mask_checks(line: String) -> String {
    let words: Vec<&str> = line.split(' ').collect();
    let masked = words.iter().enumerate().map(|(at, word)| {
        let before = at.checked_sub(1).map_or("", |at| words[at]);
        let (bare, after) = (word.trim_end_matches(','), words.get(at + 1).copied().unwrap_or_default());
        let is_random = match bare.len() {
            6 | 8 | 15 => {
                matches!(before, "check" | "checksum" | "epoch" | "have" | "key" | "revoked:")
                    || matches!(after, "message" | "start")
            }
            _ => false,
        };
        match is_random && bare.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            true => word.replace(bare, "<random>"),
            false => (*word).to_owned(),
        }
    });
    let line = masked.collect::<Vec<_>>().join(" ");
    match line.split_once(", check <random>, ") {
        Some((before, date)) if date.ends_with(" GMT") => before.to_owned() + ", check <random>, <date>",
        _ => line,
    }
}

fn is_uuid(rest: &[char]) -> bool {
    rest.len() >= 36
        && rest[..36].iter().enumerate().all(|(at, character)| match at {
            8 | 13 | 18 | 23 => *character == '-',
            _ => character.is_ascii_hexdigit(),
        })
}

/// Whether a line goes on with 40 hexadecimal digits: a secret, or its digest. A digest that `sha1sum` has made of its
/// standard input is the same in each run.
fn is_secret(rest: &[char]) -> bool {
    let digits = rest.iter().take_while(|character| matches!(character, '0'..='9' | 'a'..='f')).count();
    digits == 40 && !rest[40..].starts_with(&[' ', ' ', '-'])
}

/// Recognizes a number with a fraction at the beginning of `rest`: a timestamp if it has ten digits, a time, an amount of
/// memory or a share of waits if a unit follows. Returns its length in characters and its mask, which says its rough
/// size.
fn number(rest: &[char]) -> Option<(usize, &'static str)> {
    let digits = |from: usize| rest[from..].iter().take_while(|character| character.is_ascii_digit()).count();
    let whole = digits(0);
    if whole == 0 || rest.get(whole) != Some(&'.') || digits(whole + 1) == 0 {
        return None;
    }
    let end = whole + 1 + digits(whole + 1);
    let number: f64 = rest[..end].iter().collect::<String>().parse().ok()?;
    let unit: String = rest[end..].iter().take(3).collect();
    let milliseconds = match unit.trim_end_matches(|character: char| !character.is_alphanumeric()) {
        _ if whole == 10 => return Some((end, "<timestamp>")),
        " KB" if number < 4.0 => return Some((end, "<less than 4>")),
        " wa" => return Some((end, if number > 0.9 { "<most>" } else { "<few>" })),
        " us" => number / 1000.0,
        " ms" => number,
        " s" => number * 1000.0,
        _ => return None,
    };
    Some((end, if milliseconds < 700.0 { "<short>" } else { "<seconds>" }))
}

/// Masks the ports of clients, which the system chooses.
fn mask_ports(line: &str) -> String {
    let mut out = String::new();
    let mut rest = line;
    while let Some(at) = rest.find("127.0.0.1:") {
        let (before, after) = rest.split_at(at + "127.0.0.1:".len());
        let digits = after.bytes().take_while(u8::is_ascii_digit).count();
        out += before;
        out += if digits == 5 { "<port>" } else { &after[..digits] };
        rest = &after[digits..];
    }
    out + rest
}
