//! What an expression may look at.

use std::fmt;

use crate::api::kind::Kind;

/// A set of what an expression may look at: objects of kinds, who leads etcd, the time.
#[derive(Clone, Copy, PartialEq, Eq, Default)]
pub struct Sources(u64);

impl Sources {
    /// Nothing.
    pub const NONE: Sources = Sources(0);
    /// Which names more than one pod runs under.
    pub const TWINS: Sources = Sources(1 << 61);
    /// Who leads etcd.
    pub const LEADER: Sources = Sources(1 << 62);
    /// The time.
    pub const TIME: Sources = Sources(1 << 63);

    /// Objects of a kind.
    pub const fn objects(kind: Kind) -> Sources {
        Sources(1 << kind as u64)
    }

    /// These and those.
    pub const fn and(self, other: Sources) -> Sources {
        Sources(self.0 | other.0)
    }

    /// Whether all of those are among these.
    pub const fn contains(self, other: Sources) -> bool {
        self.0 & other.0 == other.0
    }

    /// The places of its members in a table of 64.
    pub fn places(self) -> impl Iterator<Item = usize> {
        (0..64).filter(move |place| self.0 >> place & 1 == 1)
    }

    /// The kinds among them.
    pub fn kinds(self) -> impl Iterator<Item = Kind> {
        Kind::all().filter(move |kind| self.contains(Sources::objects(*kind)))
    }
}

impl fmt::Debug for Sources {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let named = [(Sources::TWINS, "twins"), (Sources::LEADER, "leader"), (Sources::TIME, "time")];
        let named = named.into_iter().filter(|(source, _)| self.contains(*source)).map(|(_, name)| name);
        f.debug_set().entries(self.kinds().map(|kind| kind.row().name).chain(named)).finish()
    }
}
