//! The endpoint of taps: what a viewer is shown, and what it may ask for.

use std::rc::Rc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::params::{self, ApiError, ID};
use super::taps::{Command, Strike, Trouble, check_id};
use super::{Alarm, Call, Reply, Server, TRY_AGAIN_LATER, mailboxes::Mailboxes, rooms::Clients, rooms::Rooms};
use crate::event_loop::{ExchangeId, Faults, Tapped};
use crate::http::{Request, Response};
use crate::websocket::{self, Message, Role};
use crate::wire::{Conversation, Line, Part, Piece};

/// How much may wait to be written to a viewer, in bytes. What comes beyond it is left out, and counted: a
/// viewer is told of less rather than cut off, and the server keeps no more for it.
const MAX_WAITING: usize = 512 * 1024;

/// How many bytes one event shows of what was read or written at once. What is longer comes in several, so
/// that a viewer sees as much of it as it may.
const MAX_SHOWN: usize = 32 * 1024;

/// What a piece comes to at least, besides its bytes: `{"bytes":"","name":"","section":""}`.
const LEAST_PIECE: usize = 34;

/// How often it is looked whether a viewer that missed something can be told so.
const LEFT_OUT: Duration = Duration::from_millis(200);

impl Server {
    /// GET /api/tap
    pub(super) fn tap(&mut self, call: &Call<'_>) -> Result<Reply, ApiError> {
        let id = params::text(call.request, "tap", &ID)?.ok_or_else(|| params::missing("tap", &ID))?;
        check_id(&id)?;
        let head = match websocket::accept(call.request, &[]) {
            Ok(head) => head,
            Err(error) => return Ok(Reply::Now(error.response())),
        };
        self.event_loop.begin(call.conn, call.cors.apply(head));
        if self.taps.is_full(&id) {
            self.event_loop.close(call.conn, TRY_AGAIN_LATER, "there are too many taps: try again later");
            return Ok(Reply::Later);
        }
        if let Some(before) = self.taps.viewer(&id).map(|viewer| viewer.conn) {
            self.stop_tapping(before);
            self.event_loop.close(before, 1000, "superseded");
        }
        self.taps.open(&id, call.conn);
        self.show(&id, &json!({ "type": "open", "chaos": self.chaos }));
        Ok(Reply::Later)
    }

    /// This connection is gone. If it was a viewer's, nothing is copied for it any more, and what went
    /// wrong for it is well again.
    pub(super) fn stop_tapping(&mut self, conn: ExchangeId) {
        for conn in self.taps.close(conn) {
            self.event_loop.remove_probe(conn);
        }
    }

    /// A request is here that asks for a tap. Returns the answer if it is to be no other.
    pub(super) fn tap_request(&mut self, conn: ExchangeId, request: &Request) -> Option<Reply> {
        let (id, label) = self.taps.find(&request.parameter("tap")?)?;
        if self.taps.is_busy(&id) {
            self.leave_out(&id, 0);
            return None;
        }
        let address = self.event_loop.peer_address(conn);
        let Trouble { faults, bad_gateway, pending } = self.taps.begin(conn, &id, label, address);
        self.event_loop.tap(conn, request);
        if faults != Faults::default() {
            self.event_loop.disturb(conn, faults);
        }
        if let Some(strike) = pending {
            self.strike(conn, strike, faults);
        }
        if pending == Some(Strike::Drop) {
            return Some(Reply::Later);
        }
        bad_gateway.then(|| Reply::Now(bad_gateway_page()))
    }

    /// Shows viewers what their taps have seen since the last time.
    pub(super) fn show_tapped(&mut self) {
        for (conn, tapped) in self.event_loop.take_tapped() {
            match tapped {
                Tapped::Received(bytes) => self.show_bytes(conn, Role::Client, &bytes),
                Tapped::Sent(bytes) => {
                    self.show_bytes(conn, Role::Server, &bytes);
                    // An answer decides what becomes of bytes of the client's that wait for it.
                    self.show_labelled(conn, Role::Client, |conversation| conversation.read(Role::Client, b""));
                }
                Tapped::NotKept(bytes) => {
                    if let Some(viewer) = self.taps.exchange(conn).map(|exchange| exchange.viewer.clone()) {
                        self.leave_out(&viewer, bytes);
                    }
                }
                Tapped::End { closed } => {
                    for from in [Role::Client, Role::Server].into_iter().filter(|_| closed) {
                        self.show_labelled(conn, from, |conversation| conversation.end(from));
                    }
                    self.end_exchange(conn, closed);
                }
            }
        }
    }

    fn show_bytes(&mut self, conn: ExchangeId, from: Role, bytes: &[u8]) {
        for bytes in bytes.chunks(MAX_SHOWN) {
            self.show_labelled(conn, from, |conversation| conversation.read(from, bytes));
        }
    }

    /// Shows what `label` makes of the bytes of one direction, if it makes anything of them.
    fn show_labelled(&mut self, conn: ExchangeId, from: Role, label: impl FnOnce(&mut Conversation) -> Vec<Piece>) {
        let Some(exchange) = self.taps.exchange(conn) else { return };
        let (viewer, pieces) = (exchange.viewer.clone(), label(&mut exchange.conversation));
        if pieces.is_empty() {
            return;
        }
        let length = pieces.iter().map(|piece| piece.bytes.len()).sum();
        // In vain for a viewer that is full, however little comes to it besides the bytes and the names.
        if !self.may_show(&viewer, length / 3 * 4 + pieces.len() * LEAST_PIECE) {
            return self.leave_out(&viewer, length);
        }
        let mut event = self.about(conn);
        event["type"] = "bytes".into();
        event["from"] = (if from == Role::Client { "client" } else { "server" }).into();
        event["pieces"] = pieces.iter().map(piece_json).collect();
        if !self.show(&viewer, &event) {
            self.leave_out(&viewer, length);
        }
    }

    fn end_exchange(&mut self, conn: ExchangeId, closed: bool) {
        let mut event = self.about(conn);
        let Some(exchange) = self.taps.exchange(conn) else { return };
        let (viewer, struck) = (exchange.viewer.clone(), exchange.struck);
        if closed && struck == Some(Strike::Cut) {
            self.show_struck(conn, Strike::Cut);
        }
        event["type"] = "end".into();
        event["closed"] = closed.into();
        if !self.show(&viewer, &event) {
            self.leave_out(&viewer, 0);
        }
        self.taps.end(conn);
    }

    /// Whether a viewer can take an event of so many bytes. One for which nothing waits can take any.
    fn may_show(&mut self, viewer: &str, length: usize) -> bool {
        let Some(viewer) = self.taps.viewer(viewer) else { return false };
        let waiting = self.event_loop.waiting(viewer.conn);
        waiting == 0 || waiting + length <= MAX_WAITING
    }

    /// Sends an event to a viewer, unless too much waits for it already.
    fn show(&mut self, viewer: &str, event: &Value) -> bool {
        let text = event.to_string();
        if !self.may_show(viewer, text.len()) {
            return false;
        }
        let Some(viewer) = self.taps.viewer(viewer) else { return false };
        let conn = viewer.conn;
        let (bytes, events) = std::mem::take(&mut viewer.left_out);
        if events > 0 {
            let notice = json!({ "type": "left_out", "bytes": bytes, "events": events });
            self.event_loop.send_message(conn, Message::Text(notice.to_string()));
        }
        self.event_loop.send_message(conn, Message::Text(text));
        true
    }

    /// An event of so many bytes is not shown. The viewer is told later on.
    fn leave_out(&mut self, id: &Rc<str>, bytes: usize) {
        let Some(viewer) = self.taps.viewer(id) else { return };
        viewer.left_out = (viewer.left_out.0 + bytes, viewer.left_out.1 + 1);
        if !std::mem::replace(&mut viewer.is_alarm_set, true) {
            self.set_alarm(LEFT_OUT, Alarm::LeftOut(id.clone()));
        }
    }

    /// Tells a viewer what was left out, if it can take it now and has not been told meanwhile.
    pub(super) fn tell_left_out(&mut self, id: &Rc<str>) {
        let Some(viewer) = self.taps.viewer(id) else { return };
        let (bytes, events) = viewer.left_out;
        if events > 0 && self.event_loop.waiting(viewer.conn) > MAX_WAITING / 2 {
            self.set_alarm(LEFT_OUT, Alarm::LeftOut(id.clone()));
            return;
        }
        viewer.is_alarm_set = false;
        viewer.left_out = (0, 0);
        if events > 0 {
            self.show(id, &json!({ "type": "left_out", "bytes": bytes, "events": events }));
        }
    }

    /// A message from a viewer.
    pub(super) fn commanded(&mut self, id: &Rc<str>, message: &Message) -> Result<(), ApiError> {
        let Message::Text(text) = message else {
            return Err(ApiError::bad("expected a text message with a JSON object, not a binary one"));
        };
        if !self.chaos {
            return Err(ApiError::bad("faults are off: start the server with --chaos"));
        }
        match self.taps.command(id, text.as_bytes())? {
            Command::Restart => self.forget_everything(),
            Command::Switch(label) => {
                let faults = self.taps.trouble(id, &label)?.faults;
                for conn in self.taps.open_exchanges(id, &label) {
                    let struck = self.taps.exchange(conn).and_then(|exchange| exchange.struck);
                    self.event_loop.disturb(conn, with(faults, struck));
                }
            }
            Command::Strike(label, strike) => {
                let faults = self.taps.trouble(id, &label)?.faults;
                let open = self.taps.open_exchanges(id, &label);
                if open.is_empty() {
                    self.taps.trouble(id, &label)?.pending = Some(strike);
                }
                open.into_iter().for_each(|conn| self.strike(conn, strike, faults));
            }
        }
        Ok(())
    }

    fn strike(&mut self, conn: ExchangeId, strike: Strike, faults: Faults) {
        let Some(exchange) = self.taps.exchange(conn) else { return };
        exchange.struck = Some(strike);
        if strike != Strike::Cut {
            self.show_struck(conn, strike);
        }
        match strike {
            Strike::Drop => self.event_loop.sever(conn),
            Strike::Cut | Strike::HalfOpen => self.event_loop.disturb(conn, with(faults, Some(strike))),
        }
    }

    fn show_struck(&mut self, conn: ExchangeId, strike: Strike) {
        let mut event = self.about(conn);
        event["type"] = "struck".into();
        event["fault"] = strike.name().into();
        if let Some(viewer) = self.taps.exchange(conn).map(|exchange| exchange.viewer.clone())
            && !self.show(&viewer, &event)
        {
            self.leave_out(&viewer, 0);
        }
    }

    /// The members that all events on an exchange have.
    fn about(&mut self, conn: ExchangeId) -> Value {
        let Some(exchange) = self.taps.exchange(conn) else { return json!({}) };
        json!({
            "label": &*exchange.label,
            "connection": exchange.address.map(|address| address.to_string()),
            "exchange": exchange.number,
            "time": precise_time(),
        })
    }

    /// As if the server had been started anew: rooms, mailboxes and clients are gone, and so are the
    /// connections on which something was held. Only viewers stay.
    fn forget_everything(&mut self) {
        self.signalling.clear();
        for conn in self.holds.keys().copied().collect::<Vec<_>>() {
            self.release(conn);
            self.event_loop.sever(conn);
        }
        self.rooms = Rooms::default();
        self.clients = Clients::default();
        self.mailboxes = Mailboxes::default();
        let event = json!({ "type": "struck", "fault": "restart", "time": precise_time() });
        for id in self.taps.ids() {
            if !self.show(&id, &event) {
                self.leave_out(&id, 0);
            }
        }
    }
}

fn with(faults: Faults, struck: Option<Strike>) -> Faults {
    Faults { cut: struck == Some(Strike::Cut), mute: struck == Some(Strike::HalfOpen), ..faults }
}

fn piece_json(piece: &Piece) -> Value {
    let mut value = json!({
        "name": piece.part.name(),
        "section": piece.part.section(),
        "bytes": STANDARD.encode(&piece.bytes),
    });
    match &piece.part {
        Part::FrameHeader(header) => value["opcode"] = (header.opcode as u8).into(),
        Part::Payload { opcode, masking_key, offset } => {
            value["opcode"] = (*opcode as u8).into();
            if let Some(key) = masking_key {
                value["masking_key"] = format!("{:08x}", u32::from_be_bytes(*key)).into();
                value["offset"] = (*offset).into();
            }
        }
        Part::Broken(fault) => value["meaning"] = fault.to_string().into(),
        _ => {}
    }
    if !piece.lines.is_empty() {
        value["lines"] = piece.lines.iter().map(line_json).collect();
    }
    value
}

fn line_json(line: &Line) -> Value {
    json!({ "name": line.part.name(), "section": line.part.section(), "bytes": STANDARD.encode(&line.bytes) })
}

/// What a proxy says when the server behind it does not answer.
fn bad_gateway_page() -> Response {
    const PAGE: &str = "<!doctype html>\n<title>502 Bad Gateway</title>\n<h1>502 Bad Gateway</h1>\n";
    Response::new(502).with_content("text/html; charset=utf-8", PAGE).with_field("Cache-Control", "no-store")
}

/// Seconds since the epoch, to the microsecond.
fn precise_time() -> f64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
    since.as_micros() as f64 / 1_000_000.0
}
