//! What holds after every write.
//!
//! Controllers act upon what their caches show, which is what was committed a moment ago. So where a promise is about an act, it is
//! held against what was committed at any moment since then ([`Scene::seen_from`]).

mod budget;
mod deployment;
mod job;
mod stateful_set;

use super::watch::Scene;

/// Something that holds after every write.
pub trait Invariant {
    /// Looks at a write; an error says what does not hold.
    fn look(&mut self, scene: &Scene<'_>) -> Result<(), String>;

    /// How often something was done that might have broken it.
    fn judged(&self) -> usize;
}

/// All of them.
pub fn all() -> Vec<Box<dyn Invariant>> {
    vec![
        Box::<stateful_set::Order>::default(),
        Box::<deployment::Bounds>::default(),
        Box::<deployment::Floor>::default(),
        Box::<job::Counts>::default(),
        Box::<budget::Evictions>::default(),
    ]
}
