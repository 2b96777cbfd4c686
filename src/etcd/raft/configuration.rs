//! Who belongs to the group: voters and learners, and the changes from one membership to the next.

use std::fmt;

use super::MemberId;

/// The membership: voters form quorums, learners only receive the log. Both are kept in id order, without repetition.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Configuration {
    voters: Vec<MemberId>,
    learners: Vec<MemberId>,
}

/// One step from one membership to the next. At most one voter differs between the two, so that their quorums overlap.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConfigurationChange {
    /// The member that is added, promoted or removed.
    pub member: MemberId,
    /// What happens to it.
    pub kind: ChangeKind,
}

/// What a change does to its member.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChangeKind {
    /// The member becomes a voter; a learner is promoted.
    AddVoter,
    /// The member becomes a learner; a voter is demoted.
    AddLearner,
    /// The member leaves.
    Remove,
}

/// Why a membership change cannot be applied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConfigurationError {
    /// The change would leave no voter, and so nobody who could decide anything ever again.
    NoVoterLeft,
}

impl Configuration {
    /// The membership with these voters and learners. A member named as both is a voter.
    pub fn new(
        voters: impl IntoIterator<Item = MemberId>,
        learners: impl IntoIterator<Item = MemberId>,
    ) -> Configuration {
        let mut voters: Vec<MemberId> = voters.into_iter().collect();
        voters.sort_unstable();
        voters.dedup();
        let mut learners: Vec<MemberId> = learners.into_iter().filter(|id| voters.binary_search(id).is_err()).collect();
        learners.sort_unstable();
        learners.dedup();
        Configuration { voters, learners }
    }

    /// The voters in id order.
    pub fn voters(&self) -> &[MemberId] {
        &self.voters
    }

    /// The learners in id order.
    pub fn learners(&self) -> &[MemberId] {
        &self.learners
    }

    /// Whether the member is a voter or a learner.
    pub fn contains(&self, member: MemberId) -> bool {
        self.voters.binary_search(&member).is_ok() || self.learners.binary_search(&member).is_ok()
    }

    /// The membership after `change`. Adding whoever is there already and removing whoever is not change nothing.
    pub fn after(&self, change: ConfigurationChange) -> Result<Configuration, ConfigurationError> {
        let mut next = self.clone();
        let member = change.member;
        match change.kind {
            ChangeKind::AddVoter => {
                take(&mut next.learners, member);
                put(&mut next.voters, member);
            }
            ChangeKind::AddLearner => {
                take(&mut next.voters, member);
                put(&mut next.learners, member);
            }
            ChangeKind::Remove => {
                take(&mut next.voters, member);
                take(&mut next.learners, member);
            }
        }
        if next.voters.is_empty() { Err(ConfigurationError::NoVoterLeft) } else { Ok(next) }
    }
}

fn put(members: &mut Vec<MemberId>, member: MemberId) {
    if let Err(position) = members.binary_search(&member) {
        members.insert(position, member);
    }
}

fn take(members: &mut Vec<MemberId>, member: MemberId) {
    if let Ok(position) = members.binary_search(&member) {
        members.remove(position);
    }
}

impl fmt::Display for Configuration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("voters")?;
        for id in &self.voters {
            write!(f, " {id}")?;
        }
        if !self.learners.is_empty() {
            f.write_str(", learners")?;
            for id in &self.learners {
                write!(f, " {id}")?;
            }
        }
        Ok(())
    }
}

impl fmt::Display for ConfigurationChange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let verb = match self.kind {
            ChangeKind::AddVoter => "add voter",
            ChangeKind::AddLearner => "add learner",
            ChangeKind::Remove => "remove",
        };
        write!(f, "{verb} {}", self.member)
    }
}

impl fmt::Display for ConfigurationError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ConfigurationError::NoVoterLeft => f.write_str("the change would remove the last voter"),
        }
    }
}

impl std::error::Error for ConfigurationError {}

#[cfg(test)]
mod tests {
    use super::*;

    fn ids(numbers: &[u64]) -> Vec<MemberId> {
        numbers.iter().copied().map(MemberId).collect()
    }

    #[test]
    fn changes_keep_members_in_id_order_and_in_one_role() {
        let start = Configuration::new(ids(&[3, 1]), ids(&[1, 4]));
        assert_eq!(start.to_string(), "voters 1 3, learners 4");
        let change = |kind, member| ConfigurationChange { member: MemberId(member), kind };
        let promoted = start.after(change(ChangeKind::AddVoter, 4)).unwrap();
        assert_eq!(promoted.to_string(), "voters 1 3 4");
        let demoted = promoted.after(change(ChangeKind::AddLearner, 1)).unwrap();
        assert_eq!(demoted.to_string(), "voters 3 4, learners 1");
        assert_eq!(demoted.after(change(ChangeKind::Remove, 9)), Ok(demoted.clone()));
    }

    #[test]
    fn the_last_voter_cannot_leave() {
        let one = Configuration::new(ids(&[1]), ids(&[2]));
        for kind in [ChangeKind::Remove, ChangeKind::AddLearner] {
            assert_eq!(
                one.after(ConfigurationChange { member: MemberId(1), kind }),
                Err(ConfigurationError::NoVoterLeft)
            );
        }
    }
}
