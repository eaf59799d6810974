//! WebSocket as bytes and values (RFC 6455), for clients and servers: the opening handshake, frames, and messages,
//! which consist of frames. No sockets, no clock.

mod close;
mod error;
mod frame;
mod handshake;
mod message;

pub use close::{Close, CloseCode, close};
pub use error::ProtocolError;
pub use frame::{FrameHeader, MAX_HEADER, Opcode, Role, mask, parse_header};
pub use handshake::{
    Accepted, HandshakeError, accept, accept_key, encode_key, is_key, opening_request, parse_response,
};
pub use message::{Message, Received, Receiver, binary, encode, text};
