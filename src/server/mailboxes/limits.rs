//! The bounds of mailboxes that are not in [`Stores`](crate::server::Stores).

use std::time::Duration;

/// The lifetime of a mailbox without a reader, from its owner's last request.
pub const LIFETIME: Duration = Duration::from_secs(60);
