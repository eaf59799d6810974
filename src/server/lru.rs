//! Values by id, least recently used first.
//!
//! A store that is full removes the value that nobody uses now and that was unused for longest. It must find that value
//! at once: a flood of new ids asks for it with every request.

use std::collections::HashMap;
use std::ops::{Deref, DerefMut};
use std::rc::Rc;
use std::time::{Duration, Instant};

use crate::books;

/// Values by id. Each is in use, or idle since its last use. The idle ones form a list in the order of their last use.
/// All operations take constant time, amortised.
#[derive(Debug)]
pub struct Lru<T> {
    places: HashMap<Rc<str>, usize>,
    entries: Vec<Entry<T>>,
    oldest: Option<usize>,
    newest: Option<usize>,
    in_use: usize,
    /// A value that is idle for this long is stale.
    stale_after: Duration,
    /// The oldest idle entry that is not counted as stale yet, and the number of those before it.
    first_fresh: Option<usize>,
    stale: usize,
    /// The bytes of the ids.
    ids: usize,
}

#[derive(Debug)]
struct Entry<T> {
    id: Rc<str>,
    value: T,
    used: Instant,
    /// The place in the list of the idle. `None` while the value is in use.
    idle: Option<Idle>,
}

/// The neighbours in the list of the idle, and whether the entry is counted as stale.
#[derive(Debug, Clone, Copy)]
struct Idle {
    older: Option<usize>,
    newer: Option<usize>,
    is_stale: bool,
}

impl<T> Entry<T> {
    fn is_stale(&self, after: Duration, now: Instant) -> bool {
        self.idle.is_some() && self.used + after <= now
    }
}

impl<T> Lru<T> {
    /// Creates an empty store. A value that is idle for `stale_after` is stale.
    pub fn new(stale_after: Duration) -> Self {
        Lru {
            places: HashMap::new(),
            entries: Vec::new(),
            oldest: None,
            newest: None,
            in_use: 0,
            stale_after,
            first_fresh: None,
            stale: 0,
            ids: 0,
        }
    }

    /// Returns the number of values.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Returns the number of values that are in use.
    pub fn in_use(&self) -> usize {
        self.in_use
    }

    /// Returns the number of stale values.
    pub fn stale(&mut self, now: Instant) -> usize {
        while let Some(at) = self.first_fresh.filter(|at| self.entries[*at].is_stale(self.stale_after, now)) {
            let idle = self.neighbour(at);
            idle.is_stale = true;
            self.first_fresh = idle.newer;
            self.stale += 1;
        }
        self.stale
    }

    /// Returns a value for changes. This is not a use.
    pub fn get_mut(&mut self, id: &str) -> Option<Kept<'_, T>> {
        let at = *self.places.get(id)?;
        Some(Kept { lru: self, at })
    }

    /// Adds a value, which is idle from now on. There must be none with this id.
    pub fn insert(&mut self, id: Rc<str>, value: T, now: Instant) -> Kept<'_, T> {
        let at = self.entries.len();
        self.ids += books::text(id.len());
        self.places.insert(id.clone(), at);
        self.entries.push(Entry { id, value, used: now, idle: None });
        self.in_use += 1;
        self.link(at, now);
        Kept { lru: self, at }
    }

    /// Returns the idle value that was unused for longest, its id and the time of its last use.
    pub fn oldest(&self) -> Option<(&Rc<str>, &T, Instant)> {
        let entry = &self.entries[self.oldest?];
        Some((&entry.id, &entry.value, entry.used))
    }

    /// Removes a value.
    pub fn remove(&mut self, id: &str) -> Option<T> {
        let at = *self.places.get(id)?;
        self.unlink(at);
        self.in_use -= 1;
        self.places.remove(id);
        let entry = self.entries.swap_remove(at);
        self.ids -= books::text(entry.id.len());
        self.moved(self.entries.len(), at);
        Some(entry.value)
    }

    /// Gives back the memory of a flood that is over.
    pub fn shrink(&mut self) {
        books::shrink_map(&mut self.places);
        books::shrink_vec(&mut self.entries);
    }

    /// Returns the number of bytes that the values and their ids take, without what the values own.
    pub fn bytes(&self) -> usize {
        books::map(&self.places) + books::vec(&self.entries) + self.ids
    }

    /// Makes an entry the newest of the idle.
    fn link(&mut self, at: usize, now: Instant) {
        let idle = Idle { older: self.newest, newer: None, is_stale: false };
        (self.entries[at].used, self.entries[at].idle) = (now, Some(idle));
        match self.newest.replace(at) {
            Some(before) => self.neighbour(before).newer = Some(at),
            None => self.oldest = Some(at),
        }
        self.first_fresh.get_or_insert(at);
        self.in_use -= 1;
    }

    /// Takes an entry out of the list of the idle, if it is there.
    fn unlink(&mut self, at: usize) {
        let Some(Idle { older, newer, is_stale }) = self.entries[at].idle.take() else { return };
        match older {
            Some(older) => self.neighbour(older).newer = newer,
            None => self.oldest = newer,
        }
        match newer {
            Some(newer) => self.neighbour(newer).older = older,
            None => self.newest = older,
        }
        if self.first_fresh == Some(at) {
            self.first_fresh = newer;
        }
        self.stale -= usize::from(is_stale);
        self.in_use += 1;
    }

    /// Corrects what refers to an entry that has moved from one place to another.
    fn moved(&mut self, from: usize, to: usize) {
        let Some(Entry { id, idle, .. }) = self.entries.get(to) else { return };
        let idle = *idle;
        *self.places.get_mut(id).expect("each entry has a place") = to;
        let Some(Idle { older, newer, .. }) = idle else { return };
        match older {
            Some(older) => self.neighbour(older).newer = Some(to),
            None => self.oldest = Some(to),
        }
        match newer {
            Some(newer) => self.neighbour(newer).older = Some(to),
            None => self.newest = Some(to),
        }
        if self.first_fresh == Some(from) {
            self.first_fresh = Some(to);
        }
    }

    fn neighbour(&mut self, at: usize) -> &mut Idle {
        self.entries[at].idle.as_mut().expect("a neighbour in the list is idle")
    }
}

/// A value in its store.
pub struct Kept<'a, T> {
    lru: &'a mut Lru<T>,
    at: usize,
}

impl<T> Kept<'_, T> {
    /// Returns the shared form of its id.
    pub fn id(&self) -> &Rc<str> {
        &self.lru.entries[self.at].id
    }

    /// Whether it is stale.
    pub fn is_stale(&self, now: Instant) -> bool {
        self.lru.entries[self.at].is_stale(self.lru.stale_after, now)
    }

    /// Whether it is in use.
    pub fn is_in_use(&self) -> bool {
        self.lru.entries[self.at].idle.is_none()
    }

    /// Returns the time since its last use.
    pub fn idle_time(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.lru.entries[self.at].used)
    }

    /// Notes a use.
    pub fn touch(&mut self, now: Instant) {
        if !self.is_in_use() {
            self.end_use(now);
        }
    }

    /// Notes the begin of a use that lasts. Until its end the value is not idle.
    pub fn begin_use(&mut self) {
        self.lru.unlink(self.at);
    }

    /// Notes the end of a use that has lasted.
    pub fn end_use(&mut self, now: Instant) {
        self.lru.unlink(self.at);
        self.lru.link(self.at, now);
    }
}

impl<T> Deref for Kept<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.lru.entries[self.at].value
    }
}

impl<T> DerefMut for Kept<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        &mut self.lru.entries[self.at].value
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Removes all idle values, oldest first.
    fn drain(lru: &mut Lru<()>) -> String {
        let mut ids = String::new();
        while let Some((id, ..)) = lru.oldest() {
            let id = id.clone();
            ids += &id;
            lru.remove(&id);
        }
        ids
    }

    #[test]
    fn the_idle_value_unused_for_longest_is_the_oldest() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut lru = Lru::new(Duration::from_secs(60));
        for (second, id) in (0..).zip(["a", "b", "c", "d", "e", "f"]) {
            lru.insert(id.into(), (), at(second));
        }
        lru.get_mut("a").unwrap().touch(at(6));
        lru.get_mut("b").unwrap().begin_use();
        lru.get_mut("d").unwrap().begin_use();
        lru.get_mut("d").unwrap().touch(at(7));
        lru.get_mut("d").unwrap().end_use(at(8));
        assert_eq!((lru.remove("c"), lru.remove("c"), lru.len()), (Some(()), None, 5));
        assert_eq!(lru.oldest().map(|(id, (), used)| (&**id, used)), Some(("e", at(4))));
        assert_eq!(drain(&mut lru), "efad");
        assert!(lru.get_mut("b").unwrap().is_in_use() && lru.len() == 1 && lru.in_use() == 1);
        lru.get_mut("b").unwrap().end_use(at(9));
        assert_eq!((drain(&mut lru), lru.len(), lru.ids), ("b".to_owned(), 0, 0));
    }

    #[test]
    fn stale_values_are_counted() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut lru = Lru::new(Duration::from_secs(60));
        for (second, id) in (0..).zip(["a", "b", "c", "d"]) {
            lru.insert(id.into(), (), at(second));
        }
        lru.get_mut("a").unwrap().begin_use();
        assert_eq!([59, 61, 62, 62].map(|second| lru.stale(at(second))), [0, 1, 2, 2]);
        lru.get_mut("b").unwrap().touch(at(62));
        lru.get_mut("a").unwrap().end_use(at(62));
        assert_eq!([62, 63, 121, 122].map(|second| lru.stale(at(second))), [1, 2, 2, 4]);
        lru.remove("d");
        assert_eq!(lru.stale(at(122)), 3);
        lru.insert("e".into(), (), at(130));
        assert_eq!((lru.stale(at(130)), lru.stale(at(190))), (3, 4));
    }

    /// Compares it with a plain list.
    #[test]
    fn any_order_of_operations_keeps_the_list() {
        let start = Instant::now();
        let (mut lru, mut idle, mut used) = (Lru::<()>::new(Duration::from_secs(60)), Vec::new(), Vec::new());
        let mut random = 1u64;
        for step in 0..20_000 {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let id = char::from(b'a' + (random >> 40) as u8 % 26).to_string();
            let (is_idle, is_used) = (idle.contains(&id), used.contains(&id));
            idle.retain(|one| *one != id);
            let now = start + Duration::from_secs(step);
            match random >> 60 {
                0..4 => {
                    lru.remove(&id);
                    used.retain(|one| *one != id);
                }
                4..8 if is_idle => {
                    lru.get_mut(&id).unwrap().begin_use();
                    used.push(id);
                }
                8..12 if is_used => {
                    lru.get_mut(&id).unwrap().end_use(now);
                    used.retain(|one| *one != id);
                    idle.push(id);
                }
                _ if is_idle => {
                    lru.get_mut(&id).unwrap().touch(now);
                    idle.push(id);
                }
                _ if !is_used => {
                    lru.insert(id.as_str().into(), (), now);
                    idle.push(id);
                }
                _ => {}
            }
            assert_eq!(lru.oldest().map(|(id, ..)| id.to_string()).as_ref(), idle.first());
            assert_eq!((lru.len(), lru.in_use()), (idle.len() + used.len(), used.len()));
            let stale = idle.iter().filter(|id| lru.get_mut(id).unwrap().is_stale(now)).count();
            assert_eq!(lru.stale(now), stale);
        }
        assert_eq!(drain(&mut lru), idle.concat());
    }
}
