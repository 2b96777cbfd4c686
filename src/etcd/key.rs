//! Keys and ranges of keys.

use std::borrow::Borrow;
use std::fmt;
use std::ops::Deref;
use std::rc::Rc;

/// A key of the store, shared by reference count. Keys order by their bytes.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key(Rc<str>);

impl Key {
    /// The key with this text.
    pub fn new(text: &str) -> Key {
        Key(Rc::from(text))
    }

    /// The text of the key.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The smallest key after this one: its text followed by a zero byte. A page of a list continues there.
    pub fn successor(&self) -> Key {
        let mut text = String::with_capacity(self.0.len() + 1);
        text.push_str(&self.0);
        text.push('\0');
        Key(Rc::from(text))
    }
}

impl Deref for Key {
    type Target = str;
    fn deref(&self) -> &str {
        &self.0
    }
}

impl Borrow<str> for Key {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl From<&str> for Key {
    fn from(text: &str) -> Key {
        Key::new(text)
    }
}

impl From<String> for Key {
    fn from(text: String) -> Key {
        Key(Rc::from(text))
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", &*self.0)
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
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
    pub fn prefix_after(prefix: &str, last: &Key) -> KeyRange {
        match prefix_end(prefix) {
            Some(end) => KeyRange::Between(last.successor(), Key::from(end)),
            None => KeyRange::From(last.successor()),
        }
    }

    /// Whether a key lies in the range.
    pub fn contains(&self, key: &str) -> bool {
        match self {
            KeyRange::One(one) => one.as_str() == key,
            KeyRange::Prefix(prefix) => key.starts_with(prefix.as_str()),
            KeyRange::Between(start, end) => start.as_str() <= key && key < end.as_str(),
            KeyRange::From(start) => start.as_str() <= key,
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
    fn the_end_of_a_prefix_raises_its_last_character() {
        assert_eq!(prefix_end("/registry/pods/").as_deref(), Some("/registry/pods0"));
        assert_eq!(prefix_end("a\u{d7ff}").as_deref(), Some("a\u{e000}"));
        assert_eq!(prefix_end("a\u{10ffff}").as_deref(), Some("b"));
        assert_eq!(prefix_end("\u{10ffff}"), None);
    }

    #[test]
    fn a_range_contains_what_its_kind_says() {
        let inside = |range: &KeyRange| ["a", "b", "b/1", "b/2", "c"].map(|key| range.contains(key));
        assert_eq!(inside(&KeyRange::One("b".into())), [false, true, false, false, false]);
        assert_eq!(inside(&KeyRange::Prefix("b".into())), [false, true, true, true, false]);
        assert_eq!(inside(&KeyRange::Between("b".into(), "b/2".into())), [false, true, true, false, false]);
        assert_eq!(inside(&KeyRange::From("b/2".into())), [false, false, false, true, true]);
        assert_eq!(inside(&KeyRange::prefix_after("b/", &"b/1".into())), [false, false, false, true, false]);
    }
}
