//! Idempotency keys: a message that is sent twice with the same key is published once.
//!
//! A request whose answer is lost may have arrived or not. Its sender sends it again. A browser does so by itself, even
//! for a POST, when a persistent connection closes before the first byte of the answer (RFC 9112, section 9.3.1). The
//! key tells a retry from a new message, and a retry gets the answer to the first request.

use std::collections::VecDeque;
use std::rc::Rc;

/// The newest keys, each with its stored result.
#[derive(Debug)]
pub struct IdempotencyKeys<T> {
    max_keys: usize,
    results: VecDeque<(Rc<str>, T)>,
}

impl<T: Clone> IdempotencyKeys<T> {
    /// Creates an empty store for at most `max_keys` keys.
    pub fn new(max_keys: usize) -> Self {
        IdempotencyKeys { max_keys, results: VecDeque::new() }
    }

    /// Returns the stored result for `key`.
    pub fn get(&self, key: Option<&str>) -> Option<T> {
        let key = key?;
        self.results.iter().rev().find(|(known, _)| **known == *key).map(|(_, result)| result.clone())
    }

    /// Stores the result for `key`. A full store drops its oldest key.
    pub fn insert(&mut self, key: Option<&str>, result: T) {
        let Some(key) = key else { return };
        if self.results.len() == self.max_keys {
            self.results.pop_front();
        }
        self.results.push_back((key.into(), result));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_keys_are_stored() {
        let mut keys = IdempotencyKeys::new(2);
        keys.insert(None, 0);
        keys.insert(Some("a"), 1);
        keys.insert(Some("b"), 2);
        assert_eq!((keys.get(None), keys.get(Some("a")), keys.get(Some("b"))), (None, Some(1), Some(2)));
        keys.insert(Some("c"), 3);
        assert_eq!((keys.get(Some("a")), keys.get(Some("b")), keys.get(Some("c"))), (None, Some(2), Some(3)));
    }
}
