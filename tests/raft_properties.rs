//! Groups under random crashes, drops, duplicates, reordering and partitions. Every step is checked for safety; after all
//! is healed the group must go on.

mod raft_support;

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use kubesim::engine::random::{Seed, Stream};
use kubesim::etcd::raft::{ChangeKind, ConfigurationChange, Index, MemberId, Role, Settings};
use raft_support::{Failure, Group, Word, Words};

/// A group, the trouble it is in, and what it has promised.
struct Ordeal {
    group: Group,
    chance: Stream,
    /// Pairs that cannot reach each other.
    cut: BTreeSet<(u64, u64)>,
    proposed: u64,
    /// The lowest index that the answer to a read may name.
    read_floor: BTreeMap<u64, Index>,
    answered_reads: u64,
    elections: BTreeSet<u64>,
    change_members: bool,
}

impl Ordeal {
    fn new(seed: u64, size: u64, settings: Settings) -> Ordeal {
        Ordeal {
            group: Group::new(seed, settings, size),
            chance: Seed(seed).stream("ordeal", "faults"),
            cut: BTreeSet::new(),
            proposed: 0,
            read_floor: BTreeMap::new(),
            answered_reads: 0,
            elections: BTreeSet::new(),
            change_members: false,
        }
    }

    fn any_id(&mut self) -> u64 {
        let ids = self.group.ids();
        ids[self.chance.below(ids.len() as u64) as usize]
    }

    /// One random thing happens.
    fn happen(&mut self) -> Result<(), Failure> {
        let id = self.any_id();
        match self.chance.below(1000) {
            0..50 => self.group.tell(id, |member| member.tick())?,
            50..280 => {
                self.group.begin_batch(id)?;
            }
            280..500 => {
                self.group.end_batch(id)?;
            }
            500..890 => self.carry_mail()?,
            890..930 => {
                self.proposed += 1;
                let word = Word(Rc::from(format!("w{}", self.proposed)));
                self.group.act(id, |member| member.propose(word))?;
            }
            930..950 => self.read(id)?,
            950..958 => {
                self.group.snapshot(id, 3);
            }
            958..962 => {
                let to = MemberId(self.any_id());
                self.group.tell(id, |member| member.transfer_leader(to))?;
            }
            962..966 => {
                let to = MemberId(self.any_id());
                self.group.tell(id, |member| member.report_unreachable(to))?;
            }
            966..970 => {
                let (to, delivered) = (MemberId(self.any_id()), self.chance.ratio(1, 2));
                self.group.tell(id, |member| member.report_snapshot(to, delivered))?;
            }
            970..980 => self.crash_or_restart(id)?,
            980..982 => self.partition(),
            982..990 => self.cut.clear(),
            _ if self.change_members => self.change_membership(id)?,
            _ => {}
        }
        self.note_reads();
        if let Some(leader) = self.group.leader() {
            let term = self.group.member(leader).map_or(0, |member| member.term());
            self.elections.insert(term);
        }
        Ok(())
    }

    /// A message of the mail, not always the oldest, arrives, is lost, or arrives and stays.
    fn carry_mail(&mut self) -> Result<(), Failure> {
        if self.group.mail.is_empty() {
            return Ok(());
        }
        let reach = if self.chance.ratio(9, 10) { 1 } else { self.group.mail.len() as u64 };
        let position = self.chance.below(reach) as usize;
        let message = match self.chance.below(20) {
            0 => self.group.mail[position].clone(),
            _ => self.group.mail.remove(position),
        };
        let lost = self.chance.ratio(1, 50) || self.cut.contains(&(message.from.0, message.to.0));
        if lost { Ok(()) } else { self.group.deliver(message) }
    }

    fn crash_or_restart(&mut self, id: u64) -> Result<(), Failure> {
        if self.group.machine(id).member.is_some() {
            if self.chance.ratio(3, 4) {
                return Ok(());
            }
            let lucky = self.chance.ratio(1, 2);
            self.group.crash(id, lucky)
        } else {
            self.group.restart(id)
        }
    }

    /// Cuts the group in two.
    fn partition(&mut self) {
        let ids = self.group.ids();
        let side: Vec<bool> = ids.iter().map(|_| self.chance.ratio(1, 2)).collect();
        for (a, a_side) in ids.iter().zip(&side) {
            for (b, b_side) in ids.iter().zip(&side) {
                if a_side != b_side {
                    self.cut.insert((*a, *b));
                }
            }
        }
    }

    fn read(&mut self, id: u64) -> Result<(), Failure> {
        let context = self.read_floor.len() as u64;
        self.read_floor.insert(context, self.group.checker.committed().index);
        self.group.tell(id, |member| member.read_index(context))?;
        Ok(())
    }

    /// A read must see everything that was committed when it was asked for.
    fn note_reads(&mut self) {
        for machine in self.group.machines.values_mut() {
            for read in machine.reads.drain(..) {
                self.answered_reads += 1;
                let floor = self.read_floor[&read.context];
                assert!(
                    read.index >= floor,
                    "a read is answered at {} although {floor} was committed before",
                    read.index
                );
            }
        }
    }

    /// Adds, promotes, demotes or removes someone; an added member gets a machine.
    fn change_membership(&mut self, id: u64) -> Result<(), Failure> {
        let member = 1 + self.chance.below(6);
        let kind = [ChangeKind::AddVoter, ChangeKind::AddLearner, ChangeKind::Remove][self.chance.below(3) as usize];
        if !self.group.machines.contains_key(&member) {
            self.group.add_machine(member);
        }
        let change = ConfigurationChange { member: MemberId(member), kind };
        self.group.act(id, |member| member.propose_configuration_change(change))?;
        Ok(())
    }

    /// All trouble ends; within some ticks everyone must have applied a new word, and the same words in the same order.
    fn must_go_on(&mut self) -> Result<(), Failure> {
        self.cut.clear();
        for id in self.group.ids() {
            if self.group.machine(id).member.is_none() {
                self.group.restart(id)?;
            }
        }
        let last = Word(Rc::from("the end"));
        for tick in 0..400 {
            for id in self.group.ids() {
                self.group.tell(id, |member| member.tick())?;
            }
            self.group.settle()?;
            if tick % 20 == 19
                && let Some(leader) = self.group.leader()
            {
                // A transport tells the leader when a snapshot was lost; without that the member would wait for ever.
                for id in self.group.ids() {
                    self.group.tell(leader, |member| member.report_snapshot(MemberId(id), false))?;
                }
                let word = last.clone();
                self.group.act(leader, |member| member.propose(word))?;
            }
            if self.everyone_has(&last) {
                return Ok(());
            }
        }
        let states: Vec<_> = (self.group.machines.values())
            .map(|machine| {
                let member = machine.member.as_ref().expect("all are up");
                (machine.id, member.role(), member.term(), member.log().last(), member.log().committed())
            })
            .collect();
        panic!("stuck: {states:?}, mail {:?}", self.group.mail)
    }

    /// Whether all that belong to the group according to its leader have applied the word, and the same before it.
    fn everyone_has(&self, word: &Word) -> bool {
        let Some(leader) = self.group.leader() else { return false };
        let leader = &self.group.machines[&leader];
        let configuration = leader.member.as_ref().expect("it leads").configuration();
        let words: &Words = &leader.applied;
        words.contains(word)
            && (configuration.voters().iter().chain(configuration.learners()))
                .all(|id| self.group.machines[&id.0].applied == *words)
    }
}

/// Runs many ordeals; answers how many elections and answered reads there were, so that a sweep which never got anywhere
/// does not pass.
fn sweep(seeds: std::ops::Range<u64>, size: u64, steps: u64, settings: &Settings, change_members: bool) -> (u64, u64) {
    let (mut elections, mut reads) = (0, 0);
    for seed in seeds {
        let mut ordeal = Ordeal::new(seed, size, settings.clone());
        ordeal.change_members = change_members;
        for step in 0..steps {
            let result =
                ordeal.happen().and_then(|()| if step % 16 == 0 { ordeal.group.check_everything() } else { Ok(()) });
            if let Err(failure) = result {
                panic!("seed {seed}, step {step}: {failure:?}");
            }
        }
        if let Err(failure) = ordeal.must_go_on() {
            panic!("seed {seed}, after the trouble: {failure:?}");
        }
        elections += ordeal.elections.len() as u64;
        reads += ordeal.answered_reads;
    }
    (elections, reads)
}

#[test]
fn three_members_stay_safe_in_trouble_and_go_on_after_it() {
    let (elections, reads) = sweep(0..60, 3, 6000, &Settings::default(), false);
    assert!(elections > 120 && reads > 600, "{elections} elections, {reads} reads");
}

#[test]
fn five_members_stay_safe_in_trouble_and_go_on_after_it() {
    let (elections, reads) = sweep(100..130, 5, 10_000, &Settings::default(), false);
    assert!(elections > 30 && reads > 30, "{elections} elections, {reads} reads");
}

#[test]
fn members_without_pre_vote_and_check_quorum_stay_safe_and_go_on() {
    let settings = Settings { pre_vote: false, check_quorum: false, ..Settings::default() };
    let (elections, reads) = sweep(200..240, 3, 6000, &settings, false);
    assert!(elections > 40 && reads > 40, "{elections} elections, {reads} reads");
}

#[test]
fn small_messages_and_windows_change_nothing_about_safety() {
    let settings = Settings { message_limit_bytes: 1, in_flight_messages: 2, ..Settings::default() };
    let (elections, reads) = sweep(300..340, 3, 6000, &settings, false);
    assert!(elections > 40 && reads > 40, "{elections} elections, {reads} reads");
}

#[test]
fn a_group_whose_members_change_stays_safe() {
    for seed in 400..440 {
        let mut ordeal = Ordeal::new(seed, 3, Settings::default());
        ordeal.change_members = true;
        for step in 0..8000 {
            let result = ordeal.happen().and_then(|()| ordeal.group.check_everything());
            if let Err(failure) = result {
                panic!("seed {seed}, step {step}: {failure:?}");
            }
        }
    }
}

#[test]
fn a_leader_is_found_within_four_timeouts_after_the_old_one_dies() {
    for seed in 500..600 {
        let mut group = Group::new(seed, Settings::default(), 3);
        let mut first = None;
        for tick in 0..120 {
            for id in group.ids() {
                group.tell(id, |member| member.tick()).unwrap();
            }
            group.settle().unwrap();
            let leader = group.leader();
            if tick == 60 {
                first = leader;
                group.crash(first.expect("sixty ticks are enough for a first leader"), false).unwrap();
            }
        }
        let second = group.leader().expect("sixty more ticks are enough for a second");
        assert_ne!(Some(second), first);
        assert_eq!(group.member(second).map(|member| member.role()), Some(Role::Leader));
    }
}
