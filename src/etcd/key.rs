//! Keys and ranges of keys.

use std::cmp::Ordering;
use std::fmt;
use std::rc::Rc;

use crate::api::name::Name;

/// A key of the store: a path. Its directory, up to and with the last slash, stands apart from the name that follows: the one is
/// shared with its neighbours, the other with the object that lies there. Keys order by their bytes.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Key {
    /// Empty, or ends with a slash.
    directory: Rc<Name>,
    /// Without a slash.
    name: Name,
}

impl Key {
    /// The key with this text.
    pub fn new(text: &str) -> Key {
        let (directory, name) = text.split_at(text.rfind('/').map_or(0, |slash| slash + 1));
        Key { directory: Rc::new(Name::new(directory)), name: Name::new(name) }
    }

    /// The key of a name in a directory, which is empty or ends with a slash.
    pub fn within(directory: Name, name: Name) -> Key {
        let is_parted = directory.is_empty() || directory.ends_with('/');
        if !is_parted || name.contains('/') {
            return Key::new(&format!("{directory}{name}"));
        }
        Key { directory: Rc::new(directory), name }
    }

    /// Up to and with the last slash; empty if there is none.
    pub fn directory(&self) -> &Name {
        &self.directory
    }

    /// The directory, to be shared by other keys.
    pub(super) fn shared_directory(&self) -> &Rc<Name> {
        &self.directory
    }

    /// This key, with the memory of its directory shared.
    pub(super) fn sharing(&self, directory: &Rc<Name>) -> Key {
        debug_assert_eq!(self.directory, *directory);
        Key { directory: Rc::clone(directory), name: self.name.clone() }
    }

    /// Whether the text is that of a directory.
    pub fn is_directory(&self) -> bool {
        self.name.is_empty() && !self.directory.is_empty()
    }

    /// What follows the last slash.
    pub fn name(&self) -> &Name {
        &self.name
    }

    /// Bytes of the text.
    pub fn len(&self) -> usize {
        self.directory.len() + self.name.len()
    }

    /// Whether the text is empty.
    pub fn is_empty(&self) -> bool {
        self.directory.is_empty() && self.name.is_empty()
    }

    /// Whether the text begins with that of another key.
    pub fn starts_with(&self, prefix: &Key) -> bool {
        if prefix.name.is_empty() {
            return self.directory.starts_with(prefix.directory.as_str());
        }
        match self.directory.strip_prefix(prefix.directory.as_str()) {
            Some("") => self.name.starts_with(prefix.name.as_str()),
            Some(below) => below.starts_with(prefix.name.as_str()),
            None => false,
        }
    }

    /// The smallest key after this one: its text followed by a zero byte. A page of a list continues there.
    pub fn successor(&self) -> Key {
        Key { directory: self.directory.clone(), name: format!("{}\0", self.name).into() }
    }
}

impl Ord for Key {
    fn cmp(&self, other: &Key) -> Ordering {
        if self.directory == other.directory {
            return self.name.cmp(&other.name);
        }
        // Either the directories differ in what both have, or one lies in the other. Then what is left of the longer one stands
        // against the other key's name; it ends with a slash, which no name has, so that the two decide.
        let (left, right) = (self.directory.as_bytes(), other.directory.as_bytes());
        let both = left.len().min(right.len());
        left[..both].cmp(&right[..both]).then_with(|| match left.len() < right.len() {
            true => self.name.as_bytes().cmp(&right[both..]),
            false => left[both..].cmp(other.name.as_bytes()),
        })
    }
}

impl PartialOrd for Key {
    fn partial_cmp(&self, other: &Key) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl From<&str> for Key {
    fn from(text: &str) -> Key {
        Key::new(text)
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.to_string())
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.directory, self.name)
    }
}

/// A set of neighbouring keys.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum KeyRange {
    /// One key.
    One(Key),
    /// All keys that begin with this text; all keys at all if it is empty.
    Prefix(Key),
    /// From the first key, included, to the second, excluded.
    Between(Key, Key),
    /// This key and all after it (etcd's range end of a single zero byte).
    From(Key),
}

impl KeyRange {
    /// What is left of a prefix after the key `last`: the next page of a list.
    pub fn prefix_after(prefix: &Key, last: &Key) -> KeyRange {
        match prefix_end(&prefix.to_string()) {
            Some(end) => KeyRange::Between(last.successor(), Key::new(&end)),
            None => KeyRange::From(last.successor()),
        }
    }

    /// Whether a key lies in the range.
    pub fn contains(&self, key: &Key) -> bool {
        match self {
            KeyRange::One(one) => one == key,
            KeyRange::Prefix(prefix) => key.starts_with(prefix),
            KeyRange::Between(start, end) => start <= key && key < end,
            KeyRange::From(start) => start <= key,
        }
    }

    /// The first key that may lie in the range.
    pub fn start(&self) -> &Key {
        match self {
            KeyRange::One(key) | KeyRange::Prefix(key) | KeyRange::Between(key, _) | KeyRange::From(key) => key,
        }
    }

    /// Whether no key can lie in the range because its end is not after its start.
    pub fn is_empty(&self) -> bool {
        matches!(self, KeyRange::Between(start, end) if start >= end)
    }

    /// Whether the range names no key at all: an error of the request. The empty prefix and "from the empty key" mean everything.
    pub fn names_nothing(&self) -> bool {
        matches!(self, KeyRange::One(key) if key.is_empty())
    }

    /// Bytes of the range in a request.
    pub(super) fn size_bytes(&self) -> u64 {
        match self {
            KeyRange::Between(start, end) => (start.len() + end.len()) as u64,
            range => range.start().len() as u64,
        }
    }
}

/// The first text after all that begin with `prefix`; none if there is no such text. UTF-8 orders as its characters do,
/// so the last character that has a successor is raised.
fn prefix_end(prefix: &str) -> Option<String> {
    let mut end = prefix.to_owned();
    while let Some(last) = end.pop() {
        let next = match last {
            '\u{d7ff}' => Some('\u{e000}'),
            other => char::from_u32(u32::from(other) + 1),
        };
        if let Some(next) = next {
            end.push(next);
            return Some(end);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_in_two_parts_order_and_begin_as_their_texts() {
        let texts = ["", "/", "/a", "/a/", "/a/b", "/a/b/c", "/a-", "/ab", "/ab/", "a", "a/", "a/b", "ab", "b/a/"];
        for (left, right) in texts.iter().flat_map(|left| texts.map(|right| (*left, right))) {
            let (one, other) = (Key::new(left), Key::new(right));
            assert_eq!((one.to_string(), one.len()), (left.to_owned(), left.len()));
            assert_eq!(one.cmp(&other), left.cmp(right), "{left} {right}");
            assert_eq!(one == other, left == right, "{left} {right}");
            assert_eq!(one.starts_with(&other), left.starts_with(right), "{left} {right}");
        }
        let parts = |directory: &str, name: &str| Key::within(directory.into(), name.into());
        assert_eq!([parts("a/", "b/c"), parts("a", "/b/c")], [Key::new("a/b/c"), Key::new("a/b/c")], "parted anew");
    }

    #[test]
    fn the_end_of_a_prefix_raises_its_last_character() {
        assert_eq!(prefix_end("/registry/pods/").as_deref(), Some("/registry/pods0"));
        assert_eq!(prefix_end("a\u{d7ff}").as_deref(), Some("a\u{e000}"));
        assert_eq!(prefix_end("a\u{10ffff}").as_deref(), Some("b"));
        assert_eq!(prefix_end("\u{10ffff}"), None);
    }

    #[test]
    fn a_range_contains_what_its_kind_says() {
        let inside = |range: &KeyRange| ["a", "b", "b/1", "b/2", "c"].map(|key| range.contains(&key.into()));
        assert_eq!(inside(&KeyRange::One("b".into())), [false, true, false, false, false]);
        assert_eq!(inside(&KeyRange::Prefix("b".into())), [false, true, true, true, false]);
        assert_eq!(inside(&KeyRange::Between("b".into(), "b/2".into())), [false, true, true, false, false]);
        assert_eq!(inside(&KeyRange::From("b/2".into())), [false, false, false, true, true]);
        assert_eq!(inside(&KeyRange::prefix_after(&"b/".into(), &"b/1".into())), [false, false, false, true, false]);
    }
}
