//! The opening handshake of a WebSocket.

use std::sync::mpsc::Receiver;
use std::time::{Duration, Instant};

use overwire::Parse;
use overwire::http;
use overwire::websocket::{self, HandshakeError};

use crate::End;
use crate::input::Input;
use crate::printer::Way;
use crate::session;
use crate::socket::Socket;
use crate::view::{Seen, View};

/// The default time limit of the opening handshake.
const OPENING_TIME: Duration = Duration::from_secs(10);

/// The time limit of the content of a refusal.
const REFUSAL_TIME: Duration = Duration::from_secs(1);

/// The number of bytes of a refusal that are printed.
const MAX_REFUSAL: usize = 16 * 1024;

impl Socket<'_> {
    /// Sends the opening handshake, then reads and prints the answer.
    pub fn handshake(&mut self, inputs: &Receiver<Input>, view: &mut View) -> Result<(), End> {
        let key = self.send_request(view)?;
        let offered: Vec<&[u8]> =
            self.options.values("sec-websocket-protocol").flat_map(|v| http::list(v.as_bytes())).collect();
        let offered: Vec<&str> = offered.into_iter().filter_map(|name| str::from_utf8(name).ok()).collect();
        let limit = self.options.timeout.unwrap_or(OPENING_TIME);
        let mut deadline = Instant::now() + limit;
        let (mut answer, mut outcome, mut shown) = (Vec::new(), Ok(Parse::Partial), 0);
        loop {
            let (bytes, end) = match inputs.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok(Input::Bytes(bytes)) => (bytes, None),
                Ok(Input::Interrupt) => {
                    return Err(End::Failed("interrupted before the server answered the opening handshake".to_owned()));
                }
                Ok(Input::End(error)) => {
                    let why = self.connection.end_reason(error.as_ref());
                    (Vec::new(), Some(format!("{why} before it answered the opening handshake")))
                }
                _ => {
                    let limit = session::seconds(limit);
                    (Vec::new(), Some(format!("the server did not answer the opening handshake within {limit}")))
                }
            };
            if let Ok(Parse::Partial) = outcome {
                answer.extend_from_slice(&bytes);
                outcome = websocket::parse_response(&answer, &key, &offered);
                if outcome.is_err() {
                    deadline = deadline.min(Instant::now() + REFUSAL_TIME);
                }
            }
            self.pending.extend(self.connection.label(&bytes));
            if end.is_some() {
                self.pending.extend(self.connection.end());
            }
            shown += bytes.len();
            let is_over = self.show_answer(view)? || end.is_some() || shown > MAX_REFUSAL;
            match outcome {
                Ok(Parse::Complete { .. }) => {
                    view.mute(false);
                    return Ok(());
                }
                Err(error) if is_over || !matches!(error, HandshakeError::Refused(_)) => {
                    view.flush()?;
                    return Err(End::Failed(format!("{error} ({})", error.section())));
                }
                _ => {}
            }
            if let Some(why) = end {
                view.flush()?;
                return Err(End::Failed(why));
            }
        }
    }

    /// Sends the opening handshake and returns its key.
    fn send_request(&mut self, view: &mut View) -> Result<String, End> {
        let key = self.options.key.clone().unwrap_or_else(|| websocket::encode_key(self.random.bytes()));
        let fields = [
            ("Upgrade", "websocket"),
            ("Connection", "Upgrade"),
            ("Sec-WebSocket-Key", &key),
            ("Sec-WebSocket-Version", "13"),
        ];
        let request = session::request(self.options, &self.options.url, &fields, false);
        self.send_bytes(&request, view)?;
        // The whole request is written before the answer is read.
        let limit = self.options.timeout.unwrap_or(OPENING_TIME);
        while self.outgoing.len() > 0 && !self.outgoing.is_stuck(limit, Instant::now()) {
            self.write();
        }
        let key = self.options.values("sec-websocket-key").next().map_or(key, str::to_owned);
        Ok(key)
    }

    /// Prints the answer to the handshake. Returns whether the answer has ended.
    fn show_answer(&mut self, view: &mut View) -> Result<bool, End> {
        while let Some(piece) = self.pending.pop_front() {
            for seen in view.show(Way::Received, piece)? {
                match seen {
                    Seen::Status(status) => self.is_interim = status < 200 && status != 101,
                    Seen::MessageEnd if !self.is_interim => return Ok(true),
                    Seen::Broken(_) => return Ok(true),
                    _ => {}
                }
            }
        }
        Ok(false)
    }
}
