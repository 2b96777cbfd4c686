//! Who led the etcd members, and when.

use crate::engine::time::SimTime;

/// A change of leadership.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Leadership {
    /// When.
    pub at: SimTime,
    /// Who leads from then on; none if no member does.
    pub member: Option<u32>,
    /// The Raft term.
    pub term: u64,
}

/// All changes of leadership of a run.
#[derive(Debug, Default)]
pub struct Leaderships {
    all: Vec<Leadership>,
}

impl Leaderships {
    /// Takes a change in.
    pub fn changed(&mut self, at: SimTime, member: Option<u32>, term: u64) {
        self.all.push(Leadership { at, member, term });
    }

    /// All changes in their order.
    pub fn all(&self) -> &[Leadership] {
        &self.all
    }

    /// How often another leader was elected; the first election of a run is none.
    pub fn changes(&self) -> usize {
        self.all.iter().filter(|one| one.member.is_some()).count().saturating_sub(1)
    }
}
