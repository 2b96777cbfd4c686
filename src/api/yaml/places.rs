//! Where the values of a text stand.

use std::collections::BTreeMap;
use std::rc::Rc;

/// A piece of the text: where it begins for people, and its bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Mark {
    /// Counted from 1.
    pub line: usize,
    /// Counted from 1, in characters.
    pub column: usize,
    /// The first byte.
    pub start: usize,
    /// One past the last byte.
    pub end: usize,
}

/// Where a value stands, and everything in it.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Places {
    /// The key that leads to the value, if it is in a mapping.
    pub key: Option<Mark>,
    /// The value itself.
    pub value: Mark,
    pub(super) inside: Inside,
}

/// The places inside a value.
#[derive(Clone, PartialEq, Debug, Default)]
pub(super) enum Inside {
    #[default]
    Nothing,
    Entries(BTreeMap<String, Rc<Places>>),
    Items(Vec<Rc<Places>>),
}

impl Places {
    /// The place of a field written as in the API server's messages: `spec.containers[0].name`, `metadata.labels[a.b/c]`.
    /// Where that is not in the text, the nearest thing around it.
    pub fn field(&self, path: &str) -> &Places {
        let mut place = self;
        let mut rest = path;
        while !rest.is_empty() {
            let Some((next, after)) = place.step(rest) else { return place };
            (place, rest) = (next, after);
        }
        place
    }

    /// The place of a JSON pointer such as `/spec/replicas`, or the nearest thing around it.
    pub fn pointer(&self, pointer: &str) -> &Places {
        let mut place = self;
        for step in pointer.split('/').skip(1) {
            let step = step.replace("~1", "/").replace("~0", "~");
            let next = match &place.inside {
                Inside::Nothing => None,
                Inside::Entries(entries) => entries.get(&step),
                Inside::Items(items) => step.parse().ok().and_then(|index: usize| items.get(index)),
            };
            let Some(next) = next else { return place };
            place = next;
        }
        place
    }

    /// The item at an index of a list.
    pub fn item(&self, index: usize) -> Option<&Rc<Places>> {
        match &self.inside {
            Inside::Items(items) => items.get(index),
            Inside::Nothing | Inside::Entries(_) => None,
        }
    }

    /// One step along a field path: the place reached and what remains of the path.
    fn step<'s, 'p>(&'s self, path: &'p str) -> Option<(&'s Places, &'p str)> {
        let path = path.strip_prefix('.').unwrap_or(path);
        if let Some(bracketed) = path.strip_prefix('[') {
            let (inner, rest) = bracketed.split_once(']')?;
            let next = match &self.inside {
                Inside::Items(items) => items.get(inner.parse::<usize>().ok()?)?,
                Inside::Entries(entries) => entries.get(inner.trim_matches('"'))?,
                Inside::Nothing => return None,
            };
            return Some((next, rest));
        }
        let Inside::Entries(entries) = &self.inside else { return None };
        // Keys may hold dots, so the longest key that fits is taken.
        let fits = |key: &str| match path.strip_prefix(key) {
            Some(rest) if rest.is_empty() || rest.starts_with(['.', '[']) => Some(rest),
            _ => None,
        };
        let (key, next) = entries.iter().filter(|(key, _)| fits(key).is_some()).max_by_key(|(key, _)| key.len())?;
        Some((next, fits(key)?))
    }
}
