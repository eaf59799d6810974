//! The bounds of rooms.

use std::time::Duration;

/// The most bytes of encoded messages that all rooms keep for the next reader.
pub const ENCODED_BYTES: usize = 64 * 1024 * 1024;

/// The most clients whose positions are stored, the most bytes of all of them, and the time for which they are stored,
/// from the last request.
pub const CLIENTS: usize = 100_000;
pub const CLIENT_BYTES: usize = 64 * 1024 * 1024;
pub const CLIENT_LIFETIME: Duration = Duration::from_secs(300);

/// The most rooms in which the position of one client is stored.
pub const ROOMS_PER_CLIENT: usize = 16;

/// The time for which a client counts as active, from its last request.
pub const CLIENT_ACTIVE: Duration = Duration::from_secs(60);

/// The most clients of a room that other servers are told of one by one, and the most of all rooms. The clients of larger
/// rooms are counted by each server for itself.
pub const LISTED_CLIENTS_PER_ROOM: usize = 100;
pub const LISTED_CLIENTS: usize = 1000;
