//! The bounds of the stores.

use crate::journal;

/// The bounds of what is stored, in addition to those of rooms, which are in [`Retention`](crate::journal::Retention).
/// What is unused for longest makes room for more, or there is a 503.
///
/// ```
/// use overwire::server::{Config, Stores};
///
/// let stores = Stores { mailboxes: 100, ..Stores::default() };
/// let config = Config { stores, ..Config::default() };
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stores {
    /// The most clients whose positions are stored.
    pub clients: usize,
    /// The most bytes of all of them.
    pub client_bytes: usize,
    /// The most bytes of encoded messages that all rooms keep for the next reader.
    pub encoded_bytes: usize,
    /// The most mailboxes.
    pub mailboxes: usize,
    /// The most bytes of all of them.
    pub mailbox_bytes: usize,
    /// The most idempotency keys.
    pub keys: usize,
    /// The most rooms of the signalling.
    pub signalling_rooms: usize,
}

impl Default for Stores {
    fn default() -> Self {
        const MIB: usize = 1024 * 1024;
        Stores {
            clients: 100_000,
            client_bytes: 64 * MIB,
            encoded_bytes: 64 * MIB,
            mailboxes: 20_000,
            mailbox_bytes: 64 * MIB,
            keys: journal::KEYS,
            signalling_rooms: 1024,
        }
    }
}
