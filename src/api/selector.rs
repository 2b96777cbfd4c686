//! Label selectors, compiled.

use super::meta::Labels;
use super::name::Name;

/// A label selector: every requirement must hold. Without requirements it selects everything.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Selector {
    /// The requirements, sorted by key.
    pub requirements: Vec<Requirement>,
}

/// One requirement on a label.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Requirement {
    /// The label's key.
    pub key: Name,
    /// What is required of it.
    pub test: Test,
}

/// What is required of a label.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Test {
    /// Present with one of these values.
    In(Vec<Name>),
    /// Absent or with none of these values.
    NotIn(Vec<Name>),
    /// Present.
    Exists,
    /// Absent.
    DoesNotExist,
}

impl Selector {
    /// True if the labels meet every requirement.
    pub fn matches(&self, labels: &Labels) -> bool {
        self.requirements.iter().all(|requirement| {
            let value = labels.get(&requirement.key);
            match &requirement.test {
                Test::In(values) => value.is_some_and(|value| values.contains(value)),
                Test::NotIn(values) => value.is_none_or(|value| !values.contains(value)),
                Test::Exists => value.is_some(),
                Test::DoesNotExist => value.is_none(),
            }
        })
    }
}
