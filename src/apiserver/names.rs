//! Names that the server makes.

use crate::api::name::Name;
use crate::engine::random::Stream;

/// What the random part of a name is made of: no vowels, no letters that look like digits
/// (apimachinery, util/rand: `alphanums`).
const ALPHABET: &[u8; 27] = b"bcdfghjklmnpqrstvwxz2456789";

/// The longest prefix that is kept: names have at most 63 letters (apiserver, storage/names).
const LONGEST_PREFIX: usize = 58;

/// Five random letters.
pub fn suffix(stream: &mut Stream) -> [u8; 5] {
    std::array::from_fn(|_| ALPHABET[stream.below(ALPHABET.len() as u64) as usize])
}

/// A name from a prefix and five random letters.
pub fn generate(prefix: &str, stream: &mut Stream) -> Name {
    let mut end = prefix.len().min(LONGEST_PREFIX);
    while !prefix.is_char_boundary(end) {
        end -= 1;
    }
    let mut name = String::with_capacity(end + 5);
    name.push_str(&prefix[..end]);
    name.extend(suffix(stream).map(char::from));
    Name::from(name)
}
