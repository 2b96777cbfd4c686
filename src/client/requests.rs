//! A client's requests that have no answer yet, by number.
//!
//! Numbers only rise and answers come nearly in order, so a ring in the order of the numbers beats a tree: nothing is
//! allocated for the one request that most clients have under way.

use std::collections::VecDeque;

use crate::apiserver::protocol::RequestId;

/// Requests by number, in their order.
pub(super) struct Requests<P>(VecDeque<(RequestId, P)>);

impl<P> Requests<P> {
    /// None yet.
    pub fn new() -> Self {
        Requests(VecDeque::new())
    }

    /// Adds a request whose number is above all others.
    pub fn push(&mut self, id: RequestId, request: P) {
        debug_assert!(self.0.back().is_none_or(|(last, _)| *last < id), "numbers rise");
        self.0.push_back((id, request));
    }

    /// A request.
    pub fn get(&self, id: RequestId) -> Option<&P> {
        self.place(id).map(|place| &self.0[place].1)
    }

    /// A request, to be changed.
    pub fn get_mut(&mut self, id: RequestId) -> Option<&mut P> {
        self.place(id).map(|place| &mut self.0[place].1)
    }

    /// Takes a request out.
    pub fn remove(&mut self, id: RequestId) -> Option<P> {
        self.0.remove(self.place(id)?).map(|(_, request)| request)
    }

    /// All requests in the order of their numbers.
    pub fn iter(&self) -> impl Iterator<Item = (RequestId, &P)> {
        self.0.iter().map(|(id, request)| (*id, request))
    }

    /// Where a request stands.
    fn place(&self, id: RequestId) -> Option<usize> {
        match self.0.front() {
            Some((first, _)) if *first == id => Some(0),
            _ => self.0.binary_search_by_key(&id, |(id, _)| *id).ok(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_found_whatever_was_taken_out_before() {
        let mut requests = Requests::new();
        for id in 10..20 {
            requests.push(id * 3, id);
        }
        for (gone, expected) in [(30, Some(10)), (45, Some(15)), (57, Some(19)), (31, None), (45, None)] {
            assert_eq!(requests.remove(gone), expected);
        }
        *requests.get_mut(36).expect("it is there") = 0;
        assert_eq!((requests.get(36), requests.get(45), requests.get(48)), (Some(&0), None, Some(&16)));
        let left: Vec<_> = requests.iter().map(|(id, _)| id).collect();
        assert_eq!(left, [33, 36, 39, 42, 48, 51, 54]);
    }
}
