//! The books: the number of bytes that a store takes, from the capacities of its collections. It is what the allocator
//! is asked for, to within a few per cent.

use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasher, Hash};
use std::mem::size_of;

/// The fewest places that a collection keeps when it shrinks.
const KEPT: usize = 16;

/// Returns the bytes of the places of a map. A map has 8 places for each 7 entries, a power of two, and a byte of control
/// for each place.
pub fn map<K, V, S>(map: &HashMap<K, V, S>) -> usize {
    table(map.capacity(), size_of::<(K, V)>())
}

fn table(capacity: usize, entry: usize) -> usize {
    let places = match capacity {
        0 => return 0,
        1..=3 => 4,
        4..=7 => 8,
        _ => (capacity * 8 / 7).next_power_of_two(),
    };
    places * (entry + 1) + 16
}

/// Returns the bytes of the places of a queue.
pub fn deque<T>(deque: &VecDeque<T>) -> usize {
    deque.capacity() * size_of::<T>()
}

/// Gives back most of the memory of a map that has become sparse.
pub fn shrink_map<K: Eq + Hash, V, S: BuildHasher>(map: &mut HashMap<K, V, S>) {
    map.shrink_to((2 * map.len()).max(KEPT));
}

/// Gives back most of the memory of a queue that has become sparse.
pub fn shrink_deque<T>(deque: &mut VecDeque<T>) {
    if deque.capacity() > 4 * deque.len() {
        deque.shrink_to((2 * deque.len()).max(KEPT));
    }
}
