//! The books: the number of bytes that a store takes, from the capacities of its collections. It is what the allocator
//! is asked for, to within a few per cent.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::hash::{BuildHasher, Hash};
use std::mem::size_of;

/// The fewest places that a collection keeps when it shrinks.
const KEPT: usize = 16;

/// Returns the bytes of the places of a map. A map has 8 places for each 7 entries, a power of two, and a byte of control
/// for each place.
pub fn map<K, V, S>(map: &HashMap<K, V, S>) -> usize {
    table(map.capacity(), size_of::<(K, V)>())
}

/// Returns the bytes of the places of a map with this number of entries.
pub fn map_of<K, V>(entries: usize) -> usize {
    table(entries, size_of::<(K, V)>())
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

/// Returns the bytes of the places of a vector or a queue that has grown to this number of values.
pub fn vec_of<T>(values: usize) -> usize {
    values.next_power_of_two() * size_of::<T>()
}

/// Returns the bytes of the places of a vector.
pub fn vec<T>(vec: &Vec<T>) -> usize {
    vec.capacity() * size_of::<T>()
}

/// Returns the bytes of an `Rc<str>` with a text of this length: two counts, and the text.
pub fn text(length: usize) -> usize {
    (2 * size_of::<usize>() + length).next_multiple_of(size_of::<usize>())
}

/// Returns about the bytes of the nodes of a tree. A node has 11 places, of which 6 to 11 are taken.
pub fn btree_set<T>(set: &BTreeSet<T>) -> usize {
    tree(set.len(), size_of::<T>())
}

/// Returns about the bytes of the nodes of a tree of pairs.
pub fn btree_map<K, V>(map: &BTreeMap<K, V>) -> usize {
    tree(map.len(), size_of::<(K, V)>())
}

fn tree(entries: usize, entry: usize) -> usize {
    let nodes = if entries <= 11 { entries.min(1) } else { entries.div_ceil(7) };
    nodes * (11 * entry + 16)
}

/// Gives back most of the memory of a vector that has become sparse.
pub fn shrink_vec<T>(vec: &mut Vec<T>) {
    if vec.capacity() > 4 * vec.len() {
        vec.shrink_to((2 * vec.len()).max(KEPT));
    }
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
