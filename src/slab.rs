//! Values in numbered slots, found by keys that go stale: the key of a removed value never finds the value that took
//! its slot.

/// The number of a slot, and the generation of the value in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Key {
    slot: u32,
    generation: u32,
}

impl Key {
    /// Creates a key. It finds something if a value of this generation is in the slot.
    pub fn new(slot: u32, generation: u32) -> Self {
        Key { slot, generation }
    }

    /// The generation of the value.
    pub fn generation(self) -> u32 {
        self.generation
    }

    /// The number of the slot.
    pub fn slot(self) -> usize {
        self.slot as usize
    }
}

#[derive(Debug)]
struct Slot<T> {
    generation: u32,
    value: Option<T>,
}

/// A growing vector of slots, and a list of the free ones.
#[derive(Debug)]
pub struct Slab<T> {
    slots: Vec<Slot<T>>,
    free: Vec<u32>,
}

impl<T> Default for Slab<T> {
    fn default() -> Self {
        Slab { slots: Vec::new(), free: Vec::new() }
    }
}

impl<T> Slab<T> {
    /// Puts a value into a free slot.
    pub fn insert(&mut self, value: T) -> Key {
        let slot = self.free.pop().unwrap_or_else(|| {
            self.slots.push(Slot { generation: 0, value: None });
            self.slots.len() as u32 - 1
        });
        let entry = &mut self.slots[slot as usize];
        entry.value = Some(value);
        Key { slot, generation: entry.generation }
    }

    /// Removes a value. Its key is stale from now on.
    pub fn remove(&mut self, key: Key) -> Option<T> {
        let entry = self.slots.get_mut(key.slot()).filter(|entry| entry.generation == key.generation)?;
        let value = entry.value.take()?;
        entry.generation = entry.generation.wrapping_add(1);
        self.free.push(key.slot);
        Some(value)
    }

    /// Returns a value, unless the key is stale.
    pub fn get(&self, key: Key) -> Option<&T> {
        self.slots.get(key.slot()).filter(|entry| entry.generation == key.generation)?.value.as_ref()
    }

    /// Returns a value for changes, unless the key is stale.
    pub fn get_mut(&mut self, key: Key) -> Option<&mut T> {
        self.slots.get_mut(key.slot()).filter(|entry| entry.generation == key.generation)?.value.as_mut()
    }

    /// Returns the value that is in this slot now, and its key.
    pub fn at(&self, slot: usize) -> Option<(Key, &T)> {
        let entry = self.slots.get(slot)?;
        let key = Key { slot: slot as u32, generation: entry.generation };
        entry.value.as_ref().map(|value| (key, value))
    }

    /// Returns the value that is in this slot now, for changes, and its key.
    pub fn at_mut(&mut self, slot: usize) -> Option<(Key, &mut T)> {
        let entry = self.slots.get_mut(slot)?;
        let key = Key { slot: slot as u32, generation: entry.generation };
        entry.value.as_mut().map(|value| (key, value))
    }

    /// Returns the number of slots, the free ones included.
    pub fn slots(&self) -> usize {
        self.slots.len()
    }

    /// Returns all keys.
    pub fn keys(&self) -> impl Iterator<Item = Key> {
        let key = |(slot, entry): (usize, &Slot<T>)| {
            entry.value.is_some().then_some(Key { slot: slot as u32, generation: entry.generation })
        };
        self.slots.iter().enumerate().filter_map(key)
    }

    /// Returns the number of values.
    pub fn len(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    /// Whether there are no values.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stale_keys_find_nothing() {
        let mut slab = Slab::default();
        let first = slab.insert('a');
        assert_eq!((slab.remove(first), slab.remove(first)), (Some('a'), None));
        let second = slab.insert('b');
        assert_eq!((first.slot(), slab.get(first), slab.get(second)), (second.slot(), None, Some(&'b')));
        assert_eq!(slab.at_mut(0), Some((second, &mut 'b')));
        assert_eq!(slab.at_mut(1), None);
        assert_eq!((slab.len(), slab.keys().collect::<Vec<_>>()), (1, vec![second]));
    }
}
