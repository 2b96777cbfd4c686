//! What a container runtime calls an instance of a container.

use std::fmt;

use super::meta::Uid;
use super::name::Name;

/// `containerID` of the API, with its scheme; mostly worked out from what the instance is when somebody reads it, because the text is
/// long and every instance has its own. Compares as the text.
#[derive(Clone, Default)]
pub enum InstanceId {
    /// There is no instance.
    #[default]
    None,
    /// An instance that a kubelet had made: the same one always has the same text.
    Made {
        /// The pod.
        pod: Uid,
        /// The container's place among those of the pod, init containers first.
        index: u16,
        /// Which instance of the container it is, from zero.
        attempt: u32,
    },
    /// What somebody else wrote.
    Told(Name),
}

impl InstanceId {
    /// True if there is no instance.
    pub fn is_empty(&self) -> bool {
        matches!(self, InstanceId::None)
    }
}

impl From<Option<String>> for InstanceId {
    fn from(text: Option<String>) -> Self {
        text.filter(|text| !text.is_empty()).map_or(InstanceId::None, |text| InstanceId::Told(text.into()))
    }
}

impl PartialEq for InstanceId {
    fn eq(&self, other: &InstanceId) -> bool {
        match (self, other) {
            (InstanceId::None, InstanceId::None) => true,
            (InstanceId::None, _) | (_, InstanceId::None) => false,
            (
                InstanceId::Made { pod, index, attempt },
                InstanceId::Made { pod: other, index: other_index, attempt: other_attempt },
            ) => (pod, index, attempt) == (other, other_index, other_attempt),
            (InstanceId::Told(text), InstanceId::Told(other)) => text == other,
            (made, told) => made.to_string() == told.to_string(),
        }
    }
}

impl Eq for InstanceId {}

/// As containerd would: `containerd://` and 64 hexadecimal digits.
impl fmt::Display for InstanceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            InstanceId::None => Ok(()),
            InstanceId::Made { pod, index, attempt } => {
                write!(f, "containerd://{}", digest(&format!("{pod}/{index}/{attempt}")))
            }
            InstanceId::Told(text) => f.write_str(text),
        }
    }
}

impl fmt::Debug for InstanceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.to_string())
    }
}

/// 64 hexadecimal digits that follow from a text.
pub fn digest(text: &str) -> String {
    let mut digits = String::with_capacity(64);
    for word in 0..4u64 {
        let basis = 0xcbf2_9ce4_8422_2325 ^ word.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let hash = text.bytes().fold(basis, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3));
        let mixed = (hash ^ hash >> 29).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        digits.extend((0..16).rev().map(|place| char::from(b"0123456789abcdef"[(mixed >> (4 * place)) as usize & 15])));
    }
    digits
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_its_text_whoever_says_it() {
        let made = |attempt| InstanceId::Made { pod: Uid::from_random(7, 7), index: 2, attempt };
        let told = |id: &InstanceId| InstanceId::from(Some(id.to_string()));
        let text = made(0).to_string();
        assert!(text.starts_with("containerd://") && text.len() == 13 + 64, "{text}");
        assert!(made(0) == made(0) && made(0) != made(1) && made(0) != InstanceId::None);
        assert!(made(0) == told(&made(0)) && told(&made(1)) != made(0) && told(&made(1)) == told(&made(1)));
        assert!(told(&InstanceId::None).is_empty() && InstanceId::None.to_string().is_empty());
        assert_eq!(size_of::<InstanceId>(), 24);
    }
}
