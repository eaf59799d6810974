//! What was said lately, by the key that its sender gave it.
//!
//! A request whose answer never came may have arrived or not. Its sender tries again, and so does a
//! browser by itself when a persistent connection is closed before the first byte of an answer
//! (RFC 9112, section 9.3.1), a POST not excepted. The same key says that it is the same thing: it is
//! published once, and answered as often as it comes.

use std::collections::VecDeque;
use std::rc::Rc;

/// The newest keys, and what became of what they came with.
#[derive(Debug)]
pub struct Keys<T> {
    most: usize,
    kept: VecDeque<(Rc<str>, T)>,
}

impl<T: Clone> Keys<T> {
    /// None yet, and at most so many.
    pub fn new(most: usize) -> Self {
        Keys { most, kept: VecDeque::new() }
    }

    /// What became of what came with this key, if it is one of the newest.
    pub fn get(&self, key: Option<&str>) -> Option<T> {
        let key = key?;
        self.kept.iter().rev().find(|(known, _)| **known == *key).map(|(_, value)| value.clone())
    }

    /// Keeps a key that came; the oldest one makes way.
    pub fn keep(&mut self, key: Option<&str>, value: T) {
        let Some(key) = key else { return };
        if self.kept.len() == self.most {
            self.kept.pop_front();
        }
        self.kept.push_back((key.into(), value));
    }
}
