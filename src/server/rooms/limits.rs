//! The bounds of rooms that are not in [`Stores`](crate::server::Stores).

use std::time::Duration;

/// The time for which the positions of a client are stored, from its last request.
pub const CLIENT_LIFETIME: Duration = Duration::from_secs(300);

/// The most rooms in which the position of one client is stored.
pub const ROOMS_PER_CLIENT: usize = 16;

/// The time for which a client counts as active, from its last request.
pub const CLIENT_ACTIVE: Duration = Duration::from_secs(60);

/// The most clients of a room that other servers are told of one by one, and the most of all rooms. The clients of larger
/// rooms are counted by each server for itself.
pub const LISTED_CLIENTS_PER_ROOM: usize = 100;
pub const LISTED_CLIENTS: usize = 1000;
