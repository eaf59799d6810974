//! The clients that are present in a room.

use std::collections::HashMap;
use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher};

use crate::books;

/// The clients with a reader in a room. The last part of a `client_id`, after its last full stop, says who the client
/// is: several connections of one page are one. A reader without `client_id` counts as one.
#[derive(Debug, Default)]
pub struct Present {
    /// The number of readers of each client, by the hash of who it is.
    named: HashMap<u64, u32>,
    unnamed: usize,
    /// Without a random key: servers compare the hashes, to count a client once. Who makes two ids with the same hash
    /// counts as one client.
    hasher: BuildHasherDefault<DefaultHasher>,
}

impl Present {
    /// Returns the number of clients.
    pub fn clients(&self) -> usize {
        self.named.len() + self.unnamed
    }

    /// Returns the hashes of the clients that have named themselves.
    pub fn who(&self) -> impl ExactSizeIterator<Item = u64> {
        self.named.keys().copied()
    }

    /// Adds a reader of a client.
    pub fn add(&mut self, client: Option<&str>) {
        match client.map(|id| self.hash(id)) {
            Some(who) => *self.named.entry(who).or_default() += 1,
            None => self.unnamed += 1,
        }
    }

    /// Removes a reader of a client.
    pub fn remove(&mut self, client: Option<&str>) {
        let Some(who) = client.map(|id| self.hash(id)) else {
            self.unnamed -= 1;
            return;
        };
        let Some(readers) = self.named.get_mut(&who) else { return };
        *readers -= 1;
        if *readers == 0 {
            self.named.remove(&who);
        }
    }

    /// Gives back the memory of clients that have left.
    pub fn shrink(&mut self) {
        books::shrink_map(&mut self.named);
    }

    /// Returns the number of bytes of its places.
    pub fn bytes(&self) -> usize {
        books::map(&self.named)
    }

    fn hash(&self, id: &str) -> u64 {
        self.hasher.hash_one(id.rsplit('.').next())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_of_one_page_are_one_client() {
        let mut present = Present::default();
        let ids = [Some("a.me"), Some("b.c.me"), Some("me"), Some("you"), None, None];
        ids.iter().for_each(|id| present.add(*id));
        assert_eq!(present.clients(), 4);
        let after = ids.map(|id| {
            present.remove(id);
            present.clients()
        });
        assert_eq!(after, [4, 4, 3, 2, 1, 0]);
    }
}
