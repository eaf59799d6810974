//! `--via`: the program that speaks to the server in place of a TCP socket, as the ProxyCommand of ssh does. It may add
//! TLS, which wire does not have.

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use crate::stream::Stream;
use crate::url::Url;

/// The time that a program has to take the last bytes and to end by itself.
const GRACE: Duration = Duration::from_millis(300);

/// The time between two looks at a program that is about to end.
const LOOK: Duration = Duration::from_millis(5);

/// The value of `--via`: a command of the shell, in which `%h` and `%p` stand for the host and the port.
#[derive(Debug, Clone)]
pub struct Via(String);

impl Via {
    pub fn parse(text: String) -> Result<Via, String> {
        let mut characters = text.chars();
        while let Some(character) = characters.next() {
            if character == '%' && !matches!(characters.next(), Some('h' | 'p' | '%')) {
                return Err(format!("--via: expected %h, %p or %% after each %, not {text:?}"));
            }
        }
        match text.trim().is_empty() {
            true => Err("--via: expected a command, not an empty one".to_owned()),
            false => Ok(Via(text)),
        }
    }

    /// Returns the command for the server of `url`. A [`Url`] has no host that a shell reads as something else.
    pub fn command(&self, url: &Url) -> String {
        let mut command = String::new();
        let mut characters = self.0.chars();
        while let Some(character) = characters.next() {
            match character {
                '%' => match characters.next() {
                    Some('h') => command.push_str(&url.host),
                    Some('p') => command.push_str(&url.port.to_string()),
                    _ => command.push('%'),
                },
                other => command.push(other),
            }
        }
        command
    }

    /// Whether the command names the other server if it works for the server of `url`. It adds TLS to both or none.
    pub fn reaches(&self, url: &Url, other: &Url) -> bool {
        let names = |token| self.0.replace("%%", "").contains(token);
        url.is_secure == other.is_secure
            && (url.host == other.host || names("%h"))
            && (url.port == other.port || names("%p"))
    }
}

/// A running command. It ends with its connection.
pub struct Program {
    process: Child,
    stream: Stream,
}

impl Program {
    /// Starts a command. Its standard error is that of wire. With `outlives_interrupts`, Ctrl+C does not end it, because
    /// a Close is still to be sent through it.
    ///
    /// # Errors
    /// When the system has no socket or no process left. A command that does not exist is an error of the shell: the
    /// program ends with exit code 127.
    pub fn start(command: &str, outlives_interrupts: bool) -> io::Result<Program> {
        let (input, stdin) = UnixStream::pair()?;
        let (output, stdout) = UnixStream::pair()?;
        // The shell is replaced, so that `process` is the program. Signals that are ignored stay so.
        let trap = if outlives_interrupts { "trap '' INT; " } else { "" };
        let mut shell = Command::new("sh");
        shell.args(["-c", &format!("{trap}exec {command}")]);
        shell.stdin(OwnedFd::from(stdin)).stdout(OwnedFd::from(stdout)).stderr(Stdio::inherit());
        Ok(Program { process: shell.spawn()?, stream: Stream::Program { input, output } })
    }

    /// Returns a handle of the program's standard input and output.
    pub fn stream(&self) -> io::Result<Stream> {
        self.stream.try_clone()
    }

    /// The reason why a program that closed its output did so.
    pub fn reason(&mut self) -> String {
        match self.wait() {
            Some(status) if !status.success() => match (status.code(), status.signal()) {
                (Some(code), _) => format!("the program of --via ended with exit code {code}"),
                (None, signal) => format!("the program of --via was ended by signal {}", signal.unwrap_or_default()),
            },
            _ => "the program of --via closed the connection".to_owned(),
        }
    }

    /// Waits for the end of the program, but not for long.
    fn wait(&mut self) -> Option<ExitStatus> {
        let deadline = Instant::now() + GRACE;
        loop {
            match self.process.try_wait() {
                Ok(None) if Instant::now() < deadline => thread::sleep(LOOK),
                result => return result.ok().flatten(),
            }
        }
    }
}

impl Drop for Program {
    /// Closes the program's standard input and output, and ends a program that goes on.
    fn drop(&mut self) {
        self.stream.close();
        if self.wait().is_none() {
            let _ = self.process.kill();
            let _ = self.process.wait();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn url(text: &str) -> Url {
        Url::parse(text).unwrap()
    }

    #[test]
    fn host_and_port_replace_their_tokens() {
        for (text, command) in [
            ("nc %h %p", "nc a 443"),
            ("printf %%s%h", "printf %sa"),
            ("%%h", "%h"),
            ("echo \u{e9}%p\u{e9}", "echo \u{e9}443\u{e9}"),
        ] {
            assert_eq!(Via::parse(text.to_owned()).unwrap().command(&url("https://a/")), command);
        }
        assert_eq!(Via::parse("nc %h".to_owned()).unwrap().command(&url("http://[::1]:1/")), "nc ::1");
        for text in ["%", "a %", "%%%", "date +%s", " ", ""] {
            assert!(Via::parse(text.to_owned()).is_err(), "{text:?}");
        }
    }

    #[test]
    fn a_command_reaches_the_servers_that_its_tokens_name() {
        for (text, other, reaches) in [
            ("nc a 443", "https://a/x", true),
            ("nc a 443", "https://b/", false),
            ("nc a 443", "https://a:444/", false),
            ("nc a 443", "http://a:443/", false),
            ("nc %h 443", "https://b/", true),
            ("nc %h 443", "https://b:444/", false),
            ("nc %%h %%p", "https://b:444/", false),
            ("nc %h %p", "https://b:444/", true),
        ] {
            let via = Via::parse(text.to_owned()).unwrap();
            assert_eq!(via.reaches(&url("https://a/"), &url(other)), reaches, "{text} {other}");
        }
    }
}
