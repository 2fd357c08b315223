//! Things with numbers that outsiders know: clients and upstream connections.
//!
//! A number is given to another one only after the driver has heard that its former owner is gone: in between a socket
//! may still speak under it, and what it says must reach nobody.

use std::ops::{Index, IndexMut};

/// A table whose places rest before they are used again.
#[derive(Debug)]
pub struct Places<T> {
    places: Vec<Option<T>>,
    free: Vec<u32>,
    resting: Vec<u32>,
}

impl<T> Default for Places<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T> Places<T> {
    /// An empty table.
    pub fn new() -> Self {
        Self {
            places: Vec::new(),
            free: Vec::new(),
            resting: Vec::new(),
        }
    }

    /// Whether there is nothing.
    pub fn is_empty(&self) -> bool {
        self.iter().next().is_none()
    }

    /// Puts something into a free place and says which one.
    pub fn insert(&mut self, thing: T) -> usize {
        let Some(place) = self.free.pop() else {
            self.places.push(Some(thing));
            return self.places.len() - 1;
        };
        let place = place as usize;
        if let Some(empty) = self.places.get_mut(place) {
            *empty = Some(thing);
        }
        place
    }

    /// Takes something out; its place rests.
    pub fn try_remove(&mut self, place: usize) -> Option<T> {
        let thing = self.places.get_mut(place)?.take()?;
        self.resting.push(place as u32);
        Some(thing)
    }

    /// Everybody has heard: resting places may be used again.
    #[inline]
    pub fn wake(&mut self) {
        if !self.resting.is_empty() {
            self.free.append(&mut self.resting);
        }
    }

    /// What has this place.
    #[inline]
    pub fn get(&self, place: usize) -> Option<&T> {
        self.places.get(place)?.as_ref()
    }

    /// The same, to be changed.
    #[inline]
    pub fn get_mut(&mut self, place: usize) -> Option<&mut T> {
        self.places.get_mut(place)?.as_mut()
    }

    /// Everything with its place.
    pub fn iter(&self) -> impl Iterator<Item = (usize, &T)> {
        let places = self.places.iter().enumerate();
        places.filter_map(|(place, thing)| Some((place, thing.as_ref()?)))
    }

    /// The same, to be changed.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = (usize, &mut T)> {
        let places = self.places.iter_mut().enumerate();
        places.filter_map(|(place, thing)| Some((place, thing.as_mut()?)))
    }
}

/// For places that are known to be taken.
impl<T> Index<usize> for Places<T> {
    type Output = T;

    #[inline]
    fn index(&self, place: usize) -> &T {
        self.get(place).expect("the caller knows that it is there")
    }
}

impl<T> IndexMut<usize> for Places<T> {
    #[inline]
    fn index_mut(&mut self, place: usize) -> &mut T {
        self.get_mut(place).expect("the caller knows that it is there")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_rests_before_it_is_used_again() {
        let mut places = Places::new();
        let (one, two) = (places.insert("one"), places.insert("two"));
        assert_eq!(places.try_remove(one), Some("one"));
        assert_eq!(places.try_remove(one), None);
        let three = places.insert("three");
        assert!(three != one && three != two);
        places.wake();
        assert_eq!(places.insert("four"), one);
        assert_eq!(places.iter().count(), 3);
        assert!(places.get(99).is_none() && !places.is_empty());
    }
}
