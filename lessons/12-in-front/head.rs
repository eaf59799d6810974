//! The head of a request or an answer as a proxy sees it: a start line, and field lines.

use std::io::{self, BufRead, ErrorKind, Read};

/// The longest head, in bytes.
const MAX_HEAD: u64 = 16 * 1024;

/// The fields for one connection alone (RFC 9110, section 7.6.1). `Transfer-Encoding` would be one of them: it stays,
/// because the chunks are passed on as they are.
const HOP_BY_HOP: [&str; 6] = ["connection", "keep-alive", "proxy-connection", "te", "trailer", "upgrade"];

/// The fields that no `Connection` can name: without them, the next server finds another end of the message.
const FRAMING: [&str; 3] = ["host", "content-length", "transfer-encoding"];

/// A head, without its line ends.
pub struct Head {
    pub start: String,
    pub fields: Vec<String>,
}

impl Head {
    /// Reads a head.
    ///
    /// # Errors
    /// The connection ends before the empty line, is silent for too long, or the head is too long or is not one.
    pub fn read(from: &mut impl BufRead) -> io::Result<Self> {
        let mut from = from.take(MAX_HEAD);
        let mut lines = Vec::new();
        loop {
            let mut line = String::new();
            from.read_line(&mut line)?;
            match line.strip_suffix('\n').map(|line| line.strip_suffix('\r').unwrap_or(line)) {
                None => return Err(ErrorKind::UnexpectedEof.into()),
                Some("") if lines.is_empty() => {} // RFC 9112, section 2.2
                Some("") => return Ok(Head { start: lines.remove(0), fields: lines }),
                Some(line) if lines.is_empty() || is_field(line) => lines.push(line.to_owned()),
                Some(_) => return Err(ErrorKind::InvalidData.into()),
            }
        }
    }

    /// The head as bytes.
    pub fn bytes(&self) -> Vec<u8> {
        format!("{}\r\n{}\r\n\r\n", self.start, self.fields.join("\r\n")).into_bytes()
    }

    /// The value of the first field with this name.
    pub fn value(&self, name: &str) -> Option<&str> {
        self.values(name).next()
    }

    /// The values of all fields with this name.
    pub fn values(&self, name: &str) -> impl Iterator<Item = &str> {
        self.fields.iter().filter_map(move |field| value_of(field, name))
    }

    /// The elements of `Connection`, in lower case.
    fn connection(&self) -> Vec<String> {
        let elements = self.values("connection").flat_map(|value| value.split(','));
        elements.map(|element| element.trim().to_ascii_lowercase()).collect()
    }

    /// The protocol that the sender wants to change to, if any.
    pub fn upgrade(&self) -> Option<String> {
        let is_meant = self.connection().iter().any(|element| element == "upgrade");
        self.value("upgrade").filter(|_| is_meant).map(str::to_owned)
    }

    /// Removes the fields that are for one connection alone, and those that `Connection` names.
    pub fn keep_end_to_end(&mut self) {
        let named = self.connection();
        let is_named = |name: &str| named.iter().any(|named| named == name) && !FRAMING.contains(&name);
        self.fields.retain(|field| {
            let name = name_of(field).to_ascii_lowercase();
            !HOP_BY_HOP.contains(&&*name) && !is_named(&name)
        });
    }

    /// Removes all fields with this name, and adds one.
    pub fn set(&mut self, name: &str, value: &str) {
        self.remove(name);
        self.fields.push(format!("{name}: {value}"));
    }

    /// Removes all fields with this name.
    pub fn remove(&mut self, name: &str) {
        self.fields.retain(|field| !name_of(field).eq_ignore_ascii_case(name));
    }
}

/// Whether a line is a field: a name without spaces, a colon, and a value without control characters.
fn is_field(line: &str) -> bool {
    let is_name = |name: &str| overwire::http::is_token(name.as_bytes());
    line.split_once(':')
        .is_some_and(|(name, value)| is_name(name) && !value.contains(|c: char| c.is_control() && c != '\t'))
}

fn name_of(field: &str) -> &str {
    field.split(':').next().unwrap_or_default()
}

fn value_of<'a>(field: &'a str, name: &str) -> Option<&'a str> {
    let (found, value) = field.split_once(':')?;
    found.eq_ignore_ascii_case(name).then_some(value.trim())
}
