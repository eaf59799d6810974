//! The rows of WebSocket frames: headers, payloads in hex, and messages.

use std::io;
use std::mem;

use overwire::websocket::{FrameHeader, Message, Opcode, Received};
use overwire::wire::{Piece, count_of_bytes};

use crate::printer::{ROW, Way, escape, hex, rows_of_text};
use crate::view::{Seen, View};

/// The longest WebSocket message, in bytes.
const MAX_MESSAGE: usize = 16 * 1024 * 1024;

impl View {
    pub fn frame_header(&mut self, way: Way, header: FrameHeader, piece: &Piece) -> io::Result<Vec<Seen>> {
        if self.is_shown(way, header.opcode) {
            self.printer.row(way, piece.part.name(), &hex(&piece.bytes), &piece.meaning())?;
        }
        let side = self.side(way);
        (side.frame, side.arrived) = (Some(header), 0);
        if !header.opcode.is_control() {
            side.frames += 1;
        }
        if header.length == 0 {
            side.frame = None;
        }
        self.receive(way, &piece.bytes)
    }

    pub fn payload(&mut self, way: Way, piece: &Piece) -> io::Result<Vec<Seen>> {
        // A character in the last row may end after it.
        let room = self.rows.saturating_mul(ROW).saturating_add(3);
        let unmasked = piece.unmasked();
        let side = self.side(way);
        let taken = piece.bytes.len().min(room - side.payload.0.len());
        side.payload.0.extend_from_slice(&piece.bytes[..taken]);
        side.payload.1.extend_from_slice(&unmasked[..taken]);
        side.arrived += piece.bytes.len() as u64;
        if side.frame.is_some_and(|frame| frame.length == side.arrived) {
            self.show_payload(way)?;
        }
        self.receive(way, &piece.bytes)
    }

    fn is_shown(&self, way: Way, opcode: Opcode) -> bool {
        !self.only_close || way == Way::Sent || opcode == Opcode::Close
    }

    /// Prints the payload of a frame, all or the part that arrived.
    pub fn show_payload(&mut self, way: Way) -> io::Result<()> {
        let rows = self.rows;
        let side = self.side(way);
        let Some(frame) = side.frame.take() else { return Ok(()) };
        let (payload, unmasked) = mem::take(&mut side.payload);
        let arrived = side.arrived;
        if !self.is_shown(way, frame.opcode) {
            return Ok(());
        }
        let mut text = rows_of_text(&unmasked);
        if let (Opcode::Close, [high, low, reason @ ..]) = (frame.opcode, &unmasked[..]) {
            // The code takes the place of its two bytes.
            let code = format!("{} ", u16::from_be_bytes([*high, *low]));
            text = rows_of_text(&[b"  ", reason].concat());
            text[0] = (code + text[0].get(2..).unwrap_or_default()).trim_end().to_owned();
        }
        let shown = payload.len().min(rows.saturating_mul(ROW));
        self.dump(way, "payload", &payload[..shown], &text)?;
        let left_out = arrived - shown as u64;
        if left_out > 0 {
            self.printer.row(way, "payload", &format!("... and {} more", count_of_bytes(left_out)), "")?;
        }
        Ok(())
    }

    /// Prints bytes in hex, with their text next to them.
    pub fn dump(&mut self, way: Way, name: &'static str, dumped: &[u8], text: &[String]) -> io::Result<()> {
        for (row, text) in dumped.chunks(ROW).zip(text) {
            self.printer.row(way, name, &hex(row), text)?;
        }
        Ok(())
    }

    /// Joins frames to messages, and checks what a frame header does not show.
    fn receive(&mut self, way: Way, bytes: &[u8]) -> io::Result<Vec<Seen>> {
        let side = self.side(way);
        let Some(receiver) = &mut side.receiver else { return Ok(Vec::new()) };
        match receiver.receive(bytes, MAX_MESSAGE) {
            Ok((_, None)) => Ok(Vec::new()),
            Ok((_, Some(received))) => {
                if let Received::Message(message) = &received {
                    let frames = mem::take(&mut side.frames);
                    self.message(way, message, frames)?;
                }
                Ok(vec![Seen::Frame(received)])
            }
            Err(error) => {
                side.receiver = None;
                Ok(vec![Seen::Violation(error)])
            }
        }
    }

    /// Prints a text message whole if it does not fit in one row.
    fn message(&mut self, way: Way, message: &Message, frames: usize) -> io::Result<()> {
        if way == Way::Received {
            self.count();
        }
        match message {
            Message::Text(text) if self.is_shown(way, Opcode::Text) && (frames > 1 || text.len() > ROW) => {
                self.printer.row(way, "text message", &escape(text.as_bytes()), "")
            }
            _ => Ok(()),
        }
    }
}
