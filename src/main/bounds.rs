//! The bounds on the command line: those of each client, and the most memory that all of them allow.

use overwire::Limits;
use overwire::quotas::Bound;
use overwire::server::Config;

use super::number;

/// Sets a bound of each client, `NAME=N`.
pub fn set_named(limits: &mut Limits, text: &str) -> Result<(), String> {
    let names = || Bound::ALL.map(Bound::name).join(", ");
    let complaint = || format!("--per-client: expected NAME=N with one of {}, not {text:?}", names());
    let (name, number) = text.split_once('=').ok_or_else(complaint)?;
    let bound = Bound::ALL.into_iter().find(|bound| bound.name() == name).ok_or_else(complaint)?;
    set(limits, bound, &format!("--per-client: {name}"), number)
}

/// Sets a bound of each client. From then on, those of this machine have bounds too.
pub fn set(limits: &mut Limits, bound: Bound, option: &str, text: &str) -> Result<(), String> {
    // Less than one read of a connection would be a pause of many seconds.
    let least = if bound == Bound::Bytes { 65_536 } else { 1 };
    *bound.field(&mut limits.per_client) = number(option, text, least..=1_000_000_000)? as u32;
    limits.per_client.loopback = true;
    Ok(())
}

/// Returns the table of the bounds and the memory that they allow. The tap has its own event loop.
pub fn report(config: &Config, has_tap: bool) -> String {
    let tap = Limits::default().memory / (1024 * 1024);
    let of_tap = format!("\nThe tap takes up to {tap} MiB more for its connections. With --no-tap there is none.");
    format!("{}{}", config.worst_case(), if has_tap { &of_tap } else { "" })
}
