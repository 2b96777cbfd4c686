//! Majorities: how many are enough, what they agree on, and how a vote stands.

use smallvec::SmallVec;

/// How many of `voters` form a quorum.
pub fn majority(voters: usize) -> usize {
    voters / 2 + 1
}

/// The highest value that a quorum has reached, given the value of each voter. Without voters there is no quorum and the
/// answer is 0: nothing is ever agreed on.
#[inline]
pub fn reached_by_majority(values: impl Iterator<Item = u64> + Clone) -> u64 {
    // The usual case, without sorting: the middle one of three.
    let mut all = values.clone();
    if let (Some(a), Some(b), Some(c), None) = (all.next(), all.next(), all.next(), all.next()) {
        return a.min(b).max(a.max(b).min(c));
    }
    let mut sorted: SmallVec<[u64; 8]> = values.collect();
    if sorted.is_empty() {
        return 0;
    }
    sorted.sort_unstable();
    sorted[sorted.len() - majority(sorted.len())]
}

/// How an election stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VoteResult {
    /// Neither enough approvals nor enough refusals yet.
    Pending,
    /// A quorum has approved.
    Won,
    /// A quorum cannot be reached any more.
    Lost,
}

/// How an election stands, given what each voter said, if anything.
pub fn tally(votes: impl Iterator<Item = Option<bool>>) -> VoteResult {
    let (mut voters, mut granted, mut refused) = (0, 0, 0);
    for vote in votes {
        voters += 1;
        match vote {
            Some(true) => granted += 1,
            Some(false) => refused += 1,
            None => {}
        }
    }
    let needed = majority(voters);
    if granted >= needed {
        VoteResult::Won
    } else if voters - refused < needed {
        VoteResult::Lost
    } else {
        VoteResult::Pending
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_majority_reaches_the_value_that_half_and_one_have() {
        for (values, expected) in [
            (vec![], 0),
            (vec![7], 7),
            (vec![7, 3], 3),
            (vec![1, 2, 3], 2),
            (vec![3, 1, 2], 2),
            (vec![2, 3, 1], 2),
            (vec![5, 5, 1], 5),
            (vec![9, 1, 5, 7], 5),
            (vec![1, 9, 2, 8, 3], 3),
        ] {
            assert_eq!(reached_by_majority(values.iter().copied()), expected, "{values:?}");
        }
    }

    #[test]
    fn an_election_is_decided_as_soon_as_the_missing_votes_cannot_change_it() {
        let tally = |votes: &[Option<bool>]| tally(votes.iter().copied());
        assert_eq!(tally(&[Some(true), None, None]), VoteResult::Pending);
        assert_eq!(tally(&[Some(true), Some(true), None]), VoteResult::Won);
        assert_eq!(tally(&[Some(true), Some(false), Some(false)]), VoteResult::Lost);
        assert_eq!(tally(&[Some(true), Some(false), Some(false), None, None]), VoteResult::Pending);
        assert_eq!(tally(&[Some(true), Some(false), None, Some(false)]), VoteResult::Lost);
    }
}
