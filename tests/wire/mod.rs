//! The client `wire`: its output, its requests and its exit code, with this server and with servers that violate the
//! protocols.

mod backpressure;
mod command_line;
mod events;
mod handshake;
mod polling;
mod secrets;
mod support;
mod via;
mod websocket;
