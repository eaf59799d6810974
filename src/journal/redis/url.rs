//! The address of a Redis server, as the command line names it.

use std::fmt;
use std::str::FromStr;

use crate::bytes::digits;

/// The port that Redis listens on by default.
const PORT: u16 = 6379;

/// The address of a Redis server, and what it takes to log in: `redis://[[USER]:PASSWORD@]HOST[:PORT][/DB]`.
///
/// Displayed, it has neither user nor password.
#[derive(Clone, PartialEq, Eq)]
pub struct RedisUrl {
    /// A name or an address. An IPv6 address is without its brackets.
    pub host: String,
    /// The port.
    pub port: u16,
    /// The user. `None` for the default user.
    pub user: Option<String>,
    /// The password.
    pub password: Option<String>,
    /// The number of the database.
    pub database: u32,
}

impl FromStr for RedisUrl {
    type Err = String;

    /// Parses a URL. An error says what was expected, and shows no password.
    fn from_str(text: &str) -> Result<Self, String> {
        let rest = match text.split_once("://") {
            Some(("redis", rest)) => rest,
            Some(("rediss", _)) => {
                let why = "expected redis://, not rediss://: there is no TLS here";
                return Err(format!("{why}. Run stunnel in front of Redis, and name the address where it listens"));
            }
            _ => return Err("expected redis://[:PASSWORD@]HOST:PORT[/DB]".into()),
        };
        let (login, rest) = rest.rsplit_once('@').map_or((None, rest), |(login, rest)| (Some(login), rest));
        let (user, password) = login.map_or(Ok((None, None)), parse_login)?;
        let (address, database) = rest.split_once('/').unwrap_or((rest, ""));
        let (host, port) = parse_address(address)?;
        Ok(RedisUrl { host, port, user, password, database: parse_database(database)? })
    }
}

/// Parses `USER:PASSWORD`. Either may be empty.
fn parse_login(login: &str) -> Result<(Option<String>, Option<String>), String> {
    let (user, password) =
        login.split_once(':').ok_or("expected a colon before the password: redis://:PASSWORD@HOST")?;
    let decoded = |text: &str| decode(text).ok_or("expected a user and a password in which each % begins a %XX");
    let (user, password) = (decoded(user)?, decoded(password)?);
    if password.is_empty() && !user.is_empty() {
        return Err("expected a password after the user".into());
    }
    Ok((Some(user).filter(|user| !user.is_empty()), Some(password).filter(|password| !password.is_empty())))
}

/// Parses `HOST`, `HOST:PORT` or `[IPV6]:PORT`.
fn parse_address(address: &str) -> Result<(String, u16), String> {
    let (host, port) = match address.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((host, "")) => (host, None),
        Some((host, rest)) => (host, Some(rest.strip_prefix(':').ok_or("expected a colon before the port")?)),
        None => address.split_once(':').map_or((address, None), |(host, port)| (host, Some(port))),
    };
    if host.is_empty() || host.contains(['/', '?', '#', ' ']) {
        return Err(format!("expected a host, not {host:?}"));
    }
    let port = match port {
        None => PORT,
        Some(port) => {
            let number = digits(port.as_bytes()).and_then(|number| u16::try_from(number).ok());
            number.filter(|number| *number > 0).ok_or(
                "expected a port from 1 to 65535 after the host. A password has its host after it: :PASSWORD@HOST",
            )?
        }
    };
    Ok((host.into(), port))
}

fn parse_database(text: &str) -> Result<u32, String> {
    if text.is_empty() {
        return Ok(0);
    }
    let number = digits(text.as_bytes()).and_then(|number| u32::try_from(number).ok());
    number.ok_or_else(|| format!("expected the number of a database after the host, not {text:?}"))
}

/// Decodes the percent-encoding (RFC 3986, section 2.1). `None` if a `%` begins no `%XX`, or if the result is not UTF-8.
fn decode(text: &str) -> Option<String> {
    let digit = |digit: u8| char::from(digit).to_digit(16);
    let (mut bytes, mut rest) = (Vec::new(), text.as_bytes());
    while let [byte, after @ ..] = rest {
        let (decoded, left) = match (byte, after) {
            (b'%', [high, low, after @ ..]) => ((digit(*high)? << 4 | digit(*low)?) as u8, after),
            (b'%', _) => return None,
            (byte, after) => (*byte, after),
        };
        bytes.push(decoded);
        rest = left;
    }
    String::from_utf8(bytes).ok()
}

impl fmt::Display for RedisUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (open, close) = if self.host.contains(':') { ("[", "]") } else { ("", "") };
        write!(f, "redis://{open}{}{close}:{}/{}", self.host, self.port, self.database)
    }
}

impl fmt::Debug for RedisUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RedisUrl({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn url(text: &str) -> Result<RedisUrl, String> {
        text.parse()
    }

    #[test]
    fn all_parts_are_read() {
        let all = url("redis://ada:s%40c%2Fr:et@redis.example:7000/3").unwrap();
        assert_eq!((all.host.as_str(), all.port, all.database), ("redis.example", 7000, 3));
        assert_eq!((all.user.as_deref(), all.password.as_deref()), (Some("ada"), Some("s@c/r:et")));
        assert_eq!(all.to_string(), "redis://redis.example:7000/3");
        assert_eq!(format!("{all:?}"), "RedisUrl(redis://redis.example:7000/3)", "the password is not shown");
        let least = url("redis://127.0.0.1").unwrap();
        assert_eq!(least.to_string(), "redis://127.0.0.1:6379/0");
        assert_eq!((least.user, least.password), (None, None));
        let password = url("redis://:pass@[::1]:6380/").unwrap();
        assert_eq!((password.user, password.password.as_deref()), (None, Some("pass")));
        assert_eq!(url("redis://[::1]:6380").unwrap().to_string(), "redis://[::1]:6380/0");
    }

    #[test]
    fn errors_say_what_was_expected() {
        for (text, sentence) in [
            ("127.0.0.1:6379", "redis://[:PASSWORD@]HOST:PORT"),
            ("http://localhost", "redis://[:PASSWORD@]HOST:PORT"),
            ("rediss://localhost", "stunnel"),
            ("redis://", "a host"),
            ("redis://:6379", "a host"),
            ("redis://ada:secret", "a port from 1 to 65535"),
            ("redis://a:0", "a port"),
            ("redis://a:+1", "a port"),
            ("redis://[::1]6379", "a colon before the port"),
            ("redis://a/x", "number of a database"),
            ("redis://secret@a", "a colon before the password"),
            ("redis://ada:@a", "a password after the user"),
            ("redis://:50%@a", "%XX"),
        ] {
            let error = url(text).unwrap_err();
            assert!(error.contains(sentence), "{text}: {error}");
            assert!(!error.contains("secret"), "{error}");
        }
    }
}
