//! The bounds of mailboxes.

use std::time::Duration;

/// The most mailboxes, and the most bytes of all of them.
pub const MAILBOXES: usize = 20_000;
pub const BYTES: usize = 64 * 1024 * 1024;

/// The lifetime of a mailbox without a reader, from its owner's last request.
pub const LIFETIME: Duration = Duration::from_secs(60);
