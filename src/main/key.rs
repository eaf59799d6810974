//! `overwire key`: adds, lists and revokes the access keys in a file.

use std::fmt::Write as _;
use std::io::{self, ErrorKind, Write as _};
use std::path::PathBuf;
use std::time::{SystemTime, UNIX_EPOCH};

use overwire::bytes::digits;
use overwire::http::format_date;
use overwire::identity::{self, AccessKey, Rights, RoomPattern};
use overwire::random::Random;

pub const USAGE: &str = "\
usage: overwire key add NAME --keys FILE [OPTIONS]
       overwire key list --keys FILE
       overwire key revoke NAME|ID --keys FILE

`add` prints a new access key. It is shown this once: the file has only its digest. A name may
have more keys than one. `revoke` removes all keys of a name, or the one key with this id.
A server that runs with the file takes a change over at once.

  --rooms PATTERNS   the rooms, between commas; `*` at the end of a pattern stands for any
                     characters (default *), for example general,team-*
  --rights RIGHTS    read, send and admin, between commas (default read,send)
  --expires TIME     the time until it is not valid any more: 90s, 15m, 12h or 30d
                     (default: none)";

/// The longest validity, in seconds: a hundred years.
const LONGEST: u64 = 100 * 366 * 86_400;

/// A command about access keys.
pub enum KeyCommand {
    /// Add a key.
    Add { file: PathBuf, name: String, rights: Rights, rooms: Vec<RoomPattern>, seconds: Option<u64> },
    /// List all keys.
    List { file: PathBuf },
    /// Revoke the keys of a name, or the one with an id.
    Revoke { file: PathBuf, name_or_id: String },
    /// Print the usage.
    Help,
}

/// Parses the arguments after `key`.
pub fn parse(arguments: &[String]) -> Result<KeyCommand, String> {
    let (mut words, mut file, mut options) = (Vec::new(), None, Vec::new());
    let (mut rights, mut rooms, mut seconds) = (Rights::READ | Rights::SEND, RoomPattern::parse_list("*")?, None);
    let mut arguments = arguments.iter();
    while let Some(argument) = arguments.next() {
        let mut value = || arguments.next().ok_or(format!("{argument} needs a value"));
        let with_option = |error: String| format!("{argument}: {error}");
        match argument.as_str() {
            "--help" | "-h" => return Ok(KeyCommand::Help),
            "--keys" => file = Some(PathBuf::from(value()?)),
            "--rights" => rights = Rights::parse(value()?).map_err(with_option)?,
            "--rooms" => rooms = RoomPattern::parse_list(value()?).map_err(with_option)?,
            "--expires" => seconds = Some(duration(value()?).map_err(with_option)?),
            option if option.starts_with('-') => return Err(format!("unknown argument {option:?}")),
            word => words.push(word),
        }
        if matches!(argument.as_str(), "--rights" | "--rooms" | "--expires") {
            options.push(argument.as_str());
        }
    }
    let file = file.ok_or("key: expected --keys FILE");
    match (&words[..], options.first()) {
        (["add", name], _) => {
            identity::check_name(name)?;
            Ok(KeyCommand::Add { file: file?, name: (*name).to_owned(), rights, rooms, seconds })
        }
        (["list" | "revoke", ..], Some(option)) => Err(format!("{option}: expected it with `key add` alone")),
        (["list"], None) => Ok(KeyCommand::List { file: file? }),
        (["revoke", name_or_id], None) => Ok(KeyCommand::Revoke { file: file?, name_or_id: (*name_or_id).to_owned() }),
        _ => Err("key: expected `add NAME`, `list` or `revoke NAME`".into()),
    }
}

/// Parses a time such as `30d`, in seconds.
fn duration(text: &str) -> Result<u64, String> {
    let units = [("s", 1), ("m", 60), ("h", 3600), ("d", 86_400)];
    let parsed = units.iter().find_map(|(unit, seconds)| {
        digits(text.strip_suffix(unit)?.as_bytes())?
            .checked_mul(*seconds)
            .filter(|seconds| (1..=LONGEST).contains(seconds))
    });
    parsed.ok_or_else(|| format!("expected a time such as 90s, 15m, 12h or 30d, not {text:?}"))
}

/// Carries out a command. Returns the text for standard output.
pub fn run(command: KeyCommand) -> Result<String, String> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    match command {
        KeyCommand::Help => Ok(format!("{USAGE}\n")),
        KeyCommand::Add { file, name, rights, rooms, seconds } => {
            let mut random = Random::open().map_err(|error| error.to_string())?;
            let expires = seconds.map(|seconds| now + seconds);
            let (key, text) = AccessKey::create(&mut random, &name, rights, rooms, expires);
            identity::add_key(&file, &key).map_err(|error| cannot("change", &file, &error))?;
            let _ = writeln!(io::stderr(), "{}", added(&key));
            Ok(format!("{text}\n"))
        }
        KeyCommand::List { file } => {
            let keys = identity::read_keys(&file).map_err(|error| cannot("read", &file, &error))?;
            Ok(table(&keys, now))
        }
        KeyCommand::Revoke { file, name_or_id } => {
            let revoked = identity::revoke_keys(&file, &name_or_id).map_err(|error| cannot("change", &file, &error))?;
            if revoked.is_empty() {
                return Err(format!("no key in {file:?} has the name or the id {name_or_id:?}"));
            }
            Ok(revoked.iter().map(|key| format!("revoked: {} of {}\n", key.digest.id(), key.name)).collect())
        }
    }
}

fn cannot(what: &str, file: &std::path::Path, error: &io::Error) -> String {
    match error.kind() {
        ErrorKind::AlreadyExists => error.to_string(),
        _ => format!("cannot {what} {file:?}: {error}"),
    }
}

/// Returns the line about a new key. It goes to standard error, so a script gets the key alone.
fn added(key: &AccessKey) -> String {
    let AccessKey { name, rights, .. } = key;
    let until = key.expires.map_or("without an end".to_owned(), |at| format!("until {}", format_date(at)));
    let (id, rooms) = (key.digest.id(), key.room_names().join(","));
    format!("the new key {id} of {name}: {rights} in {rooms}, {until}. It is shown this once:")
}

/// Returns one line a key, under a heading.
fn table(keys: &[AccessKey], now: u64) -> String {
    let rooms = |key: &AccessKey| key.room_names().join(",");
    let width = |cell: &dyn Fn(&AccessKey) -> String, heading: &str| {
        keys.iter().map(|key| cell(key).chars().count()).chain([heading.len()]).max().unwrap_or_default()
    };
    let (names, room_lists) = (width(&|key| key.name.clone(), "NAME"), width(&rooms, "ROOMS"));
    let mut text = format!("{:8}  {:names$}  {:15}  {:room_lists$}  EXPIRES\n", "ID", "NAME", "RIGHTS", "ROOMS");
    for key in keys {
        let end = match key.expires {
            None => "never".to_owned(),
            Some(at) if key.is_valid(now) => format_date(at),
            Some(at) => format!("{} (has expired)", format_date(at)),
        };
        let (id, rights) = (key.digest.id(), key.rights.to_string());
        let _ = writeln!(text, "{id:8}  {:names$}  {rights:15}  {:room_lists$}  {end}", key.name, rooms(key));
    }
    text
}
