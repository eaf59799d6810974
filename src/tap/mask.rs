//! Masks the values of fields that carry secrets, before a viewer sees them.

/// The fields whose values are secrets, in lower case. So are all whose name begins with `proxy-`.
const SECRET: [&[u8]; 3] = [b"cookie", b"set-cookie", b"authorization"];

/// More bytes of a name than the longest that is compared.
const LONGEST_NAME: usize = 32;

/// A reader of field lines that arrive in pieces. It replaces each byte of a secret value by `*`.
#[derive(Debug, Default)]
pub struct Mask {
    at: At,
    /// The name of the field, in lower case.
    name: Vec<u8>,
}

/// The position of the next byte.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum At {
    #[default]
    LineStart,
    /// At the start of a line that continues a secret value if it begins with white space (RFC 9112, section 5.2).
    LineStartAfterSecret,
    Name,
    /// Between the colon and a secret value.
    BeforeSecret,
    Secret,
    Value,
}

impl Mask {
    /// Masks the following bytes of the lines.
    pub fn apply(&mut self, bytes: &mut [u8]) {
        for byte in bytes {
            self.at = self.next(*byte);
            if self.at == At::Secret && *byte != b'\r' {
                *byte = b'*';
            }
        }
    }

    /// Returns the position of `byte` if it is secret, else the position after it.
    fn next(&mut self, byte: u8) -> At {
        let is_space = matches!(byte, b' ' | b'\t');
        match (self.at, byte) {
            (At::Secret | At::BeforeSecret, b'\n') => At::LineStartAfterSecret,
            (_, b'\n') => At::LineStart,
            (At::LineStartAfterSecret, _) if is_space => At::BeforeSecret,
            (At::BeforeSecret, _) if is_space || byte == b'\r' => At::BeforeSecret,
            (At::BeforeSecret | At::Secret, _) => At::Secret,
            (At::LineStart | At::LineStartAfterSecret, _) => {
                self.name.clear();
                self.name_goes_on(byte)
            }
            (At::Name, _) => self.name_goes_on(byte),
            (At::Value, _) => At::Value,
        }
    }

    fn name_goes_on(&mut self, byte: u8) -> At {
        let name = self.name.trim_ascii();
        match byte {
            b':' if SECRET.contains(&name) || name.starts_with(b"proxy-") => At::BeforeSecret,
            b':' => At::Value,
            _ => {
                if self.name.len() < LONGEST_NAME {
                    self.name.push(byte.to_ascii_lowercase());
                }
                At::Name
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(lines: &str, expected: &str) {
        for size in [usize::MAX, 1, 2, 7] {
            let (mut mask, mut masked) = (Mask::default(), Vec::new());
            for piece in lines.as_bytes().chunks(size.min(lines.len())) {
                let mut piece = piece.to_vec();
                mask.apply(&mut piece);
                masked.extend(piece);
            }
            assert_eq!(String::from_utf8(masked).unwrap(), expected, "pieces of {size}");
        }
    }

    #[test]
    fn secret_values_are_masked_byte_for_byte() {
        for name in ["Cookie", "Set-Cookie", "Authorization", "Proxy-Authorization", "Proxy-Anything", "cOOKIE"] {
            check(&format!("{name}: a=b; c\r\n"), &format!("{name}: ******\r\n"));
        }
        check("Cookie:\u{e9}\r\nHost: h\r\n", "Cookie:**\r\nHost: h\r\n");
    }

    #[test]
    fn other_values_are_not_masked() {
        let lines = "Host: cookie: x\r\nX-Cookie: a\r\nCookies: a\r\nProxy: a\r\n: a\r\nCookie\r\nnone\r\n\r\n";
        check(lines, lines);
    }

    #[test]
    fn white_space_does_not_unmask_a_value() {
        check("Cookie:\t  a b\t\r\n", "Cookie:\t  ****\r\n");
        check("Cookie : ab\r\n", "Cookie : **\r\n");
        check("Cookie: a\rb\r\n", "Cookie: *\r*\r\n");
        check("Cookie: a\n b\n\tc\r\n  \r\nHost: h\n", "Cookie: *\n *\n\t*\r\n  \r\nHost: h\n");
        check(" Cookie: a\r\n", " Cookie: *\r\n");
    }

    #[test]
    fn too_long_names_are_not_secret() {
        let line = format!("Cookie{}: a\n", "x".repeat(100));
        check(&line, &line);
    }
}
