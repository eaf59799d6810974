//! Prints what a fast hash and a slow hash cost, and what that means for an attacker who has a digest.

use std::hint::black_box;
use std::process::ExitCode;
use std::time::Instant;

use lessons::Lesson;
use sha1::{Digest as _, Sha1};

const LESSON: Lesson = Lesson {
    name: "11-cost",
    port: 0,
    about: "prints the time of a fast hash and of a slow one, and finds a PIN by its digest",
    first: "",
    look_for: "",
    costs: &[],
};

/// The rounds of the slow hash here. Those for passwords also need much memory.
const ROUNDS: usize = 10_000;

fn main() -> ExitCode {
    LESSON.run(|_| {
        let key = "a".repeat(40);
        let each = time(|| (0..1000).for_each(|_| _ = black_box(fast(&key)))) / 1000.0;
        print("the digest of a key", each * 1000.0, "us");
        let (stolen, mut found) = (fast("7351"), None);
        let all = time(|| found = (0..10_000).map(|pin| format!("{pin:04}")).find(|pin| fast(pin) == stolen));
        print(&format!("the PIN {}, by its digest", found.unwrap_or_default()), all, "ms");
        print(&format!("a slow digest, of {ROUNDS} rounds"), time(|| _ = black_box(slow("7351"))), "ms");
        Ok(())
    })
}

fn fast(secret: &str) -> [u8; 20] {
    Sha1::digest(secret).into()
}

/// The idea of a slow hash. Use Argon2 or scrypt for passwords, with a salt: random bytes that differ for each user.
fn slow(password: &str) -> [u8; 20] {
    (0..ROUNDS).fold(fast(password), |digest, _| Sha1::digest(digest).into())
}

fn print(name: &str, time: f64, unit: &str) {
    println!("{name:<35} {time:>8.2} {unit}");
}

/// Returns the time of `work` in milliseconds.
fn time(work: impl FnOnce()) -> f64 {
    let start = Instant::now();
    work();
    start.elapsed().as_secs_f64() * 1000.0
}
