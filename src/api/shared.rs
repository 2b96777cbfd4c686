//! A short list that many objects have in common and many more do not have at all: it takes one word.

use std::fmt;
use std::ops::{Deref, DerefMut};
use std::rc::Rc;

/// A list, shared by reference count; nothing is allocated for an empty one. Who changes it gets a copy first if it is shared.
pub struct Shared<T>(Option<Rc<Box<[T]>>>);

impl<T> Shared<T> {
    /// The empty list.
    pub const NONE: Shared<T> = Shared(None);

    /// What is in it.
    #[inline]
    pub fn as_slice(&self) -> &[T] {
        match &self.0 {
            Some(list) => list,
            None => &[],
        }
    }

    /// True if both are the same in memory, or both are empty; false says nothing.
    #[inline]
    pub fn same(&self, other: &Shared<T>) -> bool {
        match (&self.0, &other.0) {
            (Some(left), Some(right)) => Rc::ptr_eq(left, right),
            (None, None) => true,
            _ => false,
        }
    }
}

impl<T: Clone> Shared<T> {
    /// Changes the list.
    pub fn change<R>(&mut self, change: impl FnOnce(&mut Vec<T>) -> R) -> R {
        let mut list = match self.0.take().map(Rc::try_unwrap) {
            Some(Ok(own)) => own.into_vec(),
            Some(Err(shared)) => shared.to_vec(),
            None => Vec::new(),
        };
        let result = change(&mut list);
        *self = list.into();
        result
    }

    /// Adds at a place.
    pub fn insert(&mut self, place: usize, item: T) {
        self.change(|list| list.insert(place, item));
    }

    /// Adds to the end.
    pub fn push(&mut self, item: T) {
        self.change(|list| list.push(item));
    }

    /// Keeps those alone of which this is true.
    pub fn retain(&mut self, keep: impl FnMut(&T) -> bool) {
        self.change(|list| list.retain(keep));
    }
}

impl<T> Clone for Shared<T> {
    #[inline]
    fn clone(&self) -> Self {
        Shared(self.0.clone())
    }
}

impl<T> Default for Shared<T> {
    fn default() -> Self {
        Shared::NONE
    }
}

impl<T> Deref for Shared<T> {
    type Target = [T];

    #[inline]
    fn deref(&self) -> &[T] {
        self.as_slice()
    }
}

impl<T: Clone> DerefMut for Shared<T> {
    fn deref_mut(&mut self) -> &mut [T] {
        match &mut self.0 {
            Some(list) => &mut Rc::make_mut(list)[..],
            None => &mut [],
        }
    }
}

impl<T: PartialEq> PartialEq for Shared<T> {
    fn eq(&self, other: &Shared<T>) -> bool {
        self.same(other) || self.as_slice() == other.as_slice()
    }
}

impl<T: Eq> Eq for Shared<T> {}

impl<T: fmt::Debug> fmt::Debug for Shared<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.as_slice().fmt(f)
    }
}

impl<T> From<Vec<T>> for Shared<T> {
    fn from(list: Vec<T>) -> Self {
        if list.is_empty() { Shared::NONE } else { Shared(Some(Rc::new(list.into()))) }
    }
}

impl<T, const N: usize> From<[T; N]> for Shared<T> {
    fn from(list: [T; N]) -> Self {
        Vec::from(list).into()
    }
}

impl<T> FromIterator<T> for Shared<T> {
    fn from_iter<I: IntoIterator<Item = T>>(items: I) -> Self {
        items.into_iter().collect::<Vec<T>>().into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_takes_one_word_and_an_empty_one_nothing_more() {
        assert_eq!(size_of::<Shared<String>>(), size_of::<usize>());
        let (one, none) = (Shared::from([1]), Shared::from(Vec::<i32>::new()));
        assert!(none.same(&Shared::NONE) && !none.same(&one) && one.same(&one.clone()));
        assert_eq!((one.clone(), one.len()), (Shared::from_iter([1]), 1));
    }

    #[test]
    fn who_changes_a_list_leaves_those_alone_that_share_it() {
        let before = Shared::from([1, 2, 3]);
        let mut after = before.clone();
        after[0] = 7;
        after.push(4);
        after.retain(|item| *item != 2);
        after.insert(0, 9);
        assert_eq!((before.as_slice(), after.as_slice()), (&[1, 2, 3][..], &[9, 7, 3, 4][..]));
        after.retain(|_| false);
        assert!(after.same(&Shared::NONE) && !after.same(&before));
    }
}
