//! A group of members with disks that lose what was not synced and mail that goes nowhere by itself. Every step of every
//! member is shown to the safety checker.

#![allow(dead_code, reason = "each test binary uses its part")]

use std::collections::BTreeMap;
use std::rc::Rc;

use kubesim::engine::random::Seed;
use kubesim::etcd::raft::invariants::{Down, View, Violation, check_all};
use kubesim::etcd::raft::{
    Command, Configuration, Corruption, Durable, Entry, HardState, Index, MemberId, Message, Payload, Raft, ReadState,
    Ready, Receipt, Role, SafetyChecker, Settings, Snapshot, StepError,
};

/// A command: a word.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Word(pub Rc<str>);

impl Command for Word {
    fn size_bytes(&self) -> u64 {
        self.0.len() as u64
    }
}

/// The application's state: all words applied, in order.
pub type Words = Vec<Word>;
pub type Member = Raft<Word, Words>;
pub type Mail = Message<Word, Words>;
pub type Batch = Ready<Word, Words>;

/// One machine: a disk, and a member while it is up.
pub struct Machine {
    pub id: MemberId,
    pub disk: Durable<Word, Words>,
    /// A commit index that was written without a sync.
    unsynced_commit: Index,
    pub member: Option<Member>,
    /// The batch whose write is under way.
    pub writing: Option<Batch>,
    pub applied: Words,
    pub applied_index: Index,
    pub reads: Vec<ReadState>,
    /// The configuration that was last applied.
    configuration: Configuration,
    /// How often it has started.
    lives: u64,
}

pub struct Group {
    pub settings: Settings,
    pub seed: Seed,
    pub machines: BTreeMap<u64, Machine>,
    pub mail: Vec<Mail>,
    pub checker: SafetyChecker,
    founders: Configuration,
}

#[derive(Debug)]
pub enum Failure {
    Unsafe(Violation),
    Corrupted(Corruption),
}

impl From<Violation> for Failure {
    fn from(violation: Violation) -> Failure {
        Failure::Unsafe(violation)
    }
}

impl Group {
    pub fn new(seed: u64, settings: Settings, voters: u64) -> Group {
        let founders = Configuration::new((1..=voters).map(MemberId), []);
        let mut group = Group {
            settings,
            seed: Seed(seed),
            machines: BTreeMap::new(),
            mail: Vec::new(),
            checker: SafetyChecker::new(),
            founders,
        };
        for id in 1..=voters {
            group.add_machine(id);
        }
        group
    }

    /// A machine with an empty disk, of a founder or of someone who joins.
    pub fn add_machine(&mut self, id: u64) {
        let configuration = self.founders.clone();
        let disk = Durable {
            hard_state: HardState::default(),
            configuration: configuration.clone(),
            snapshot: None,
            entries: Vec::new(),
        };
        let machine = Machine {
            id: MemberId(id),
            disk,
            unsynced_commit: 0,
            member: None,
            writing: None,
            applied: Vec::new(),
            applied_index: 0,
            reads: Vec::new(),
            configuration,
            lives: 0,
        };
        self.machines.insert(id, machine);
        self.restart(id).expect("an empty disk is a sound one");
    }

    pub fn machine(&mut self, id: u64) -> &mut Machine {
        self.machines.get_mut(&id).expect("no such machine")
    }

    pub fn member(&mut self, id: u64) -> Option<&mut Member> {
        self.machine(id).member.as_mut()
    }

    pub fn leader(&self) -> Option<u64> {
        let leaders = self.machines.iter().filter_map(|(id, machine)| {
            let member = machine.member.as_ref()?;
            (member.role() == Role::Leader).then_some((member.term(), *id))
        });
        leaders.max().map(|(_, id)| id)
    }

    /// Power off. What was not synced is lost; `lucky` writes have reached the disk all the same, unannounced.
    pub fn crash(&mut self, id: u64, lucky: bool) -> Result<(), Failure> {
        let machine = self.machine(id);
        machine.member = None;
        if let Some(batch) = machine.writing.take()
            && lucky
        {
            machine.write(&batch);
            machine.flush();
        }
        if lucky {
            machine.flush();
        }
        machine.unsynced_commit = 0;
        machine.reads.clear();
        let machine = &self.machines[&id];
        self.checker.observe_crash(&machine.down())?;
        Ok(())
    }

    pub fn restart(&mut self, id: u64) -> Result<(), Failure> {
        let (settings, seed) = (self.settings.clone(), self.seed);
        let machine = self.machine(id);
        machine.lives += 1;
        let chance = seed.stream(&format!("etcd-{id}.{}", machine.lives), "election");
        let disk = machine.disk.clone();
        machine.applied.clear();
        machine.applied_index = 0;
        if let Some(snapshot) = &disk.snapshot {
            machine.applied = snapshot.data.clone();
            machine.applied_index = snapshot.last.index;
        }
        let member = Raft::new(machine.id, settings, chance, disk).map_err(Failure::Corrupted)?;
        machine.configuration = member.configuration().clone();
        machine.member = Some(member);
        let machine = &self.machines[&id];
        self.checker.observe_crash(machine.member.as_ref().expect("it is up"))?;
        Ok(())
    }

    /// Does something to a member that is up, and looks at it afterwards.
    pub fn act<R>(
        &mut self,
        id: u64,
        action: impl FnOnce(&mut Member) -> Result<R, StepError>,
    ) -> Result<Option<R>, Failure> {
        let Some(member) = self.member(id) else { return Ok(None) };
        let result = action(member);
        self.observe(id)?;
        match result {
            Ok(result) => Ok(Some(result)),
            Err(StepError::ProposalDropped) => Ok(None),
            Err(StepError::Corrupted(corruption)) => Err(Failure::Corrupted(corruption)),
        }
    }

    /// Tells a member something that it cannot refuse.
    pub fn tell(&mut self, id: u64, action: impl FnOnce(&mut Member)) -> Result<(), Failure> {
        let told = self.act(id, |member| {
            action(member);
            Ok(())
        });
        told.map(|_| ())
    }

    fn observe(&mut self, id: u64) -> Result<(), Failure> {
        if let Some(member) = &self.machines[&id].member {
            self.checker.observe(member)?;
        }
        Ok(())
    }

    /// Takes the next batch of a member: applies what is committed, sends what need not wait, begins to write the rest.
    /// False if there is nothing to do or a write is under way.
    pub fn begin_batch(&mut self, id: u64) -> Result<bool, Failure> {
        let machine = self.machine(id);
        let mut batch = Batch::default();
        let Some(member) = &mut machine.member else { return Ok(false) };
        if !member.ready(&mut batch) {
            return Ok(false);
        }
        let sent = std::mem::take(&mut batch.messages_before_sync);
        machine.apply(&batch);
        machine.reads.append(&mut batch.read_states);
        machine.writing = Some(batch);
        self.mail.extend(sent);
        self.observe(id)?;
        Ok(true)
    }

    /// The write that is under way ends: sends what waited for it. False if none is.
    pub fn end_batch(&mut self, id: u64) -> Result<bool, Failure> {
        let machine = self.machine(id);
        let Some(mut batch) = machine.writing.take() else { return Ok(false) };
        machine.write(&batch);
        let receipt: Receipt = batch.receipt;
        self.mail.append(&mut batch.messages_after_sync);
        self.act(id, |member| member.advance(receipt))?;
        Ok(true)
    }

    pub fn work(&mut self, id: u64) -> Result<bool, Failure> {
        let mut worked = self.end_batch(id)?;
        while self.begin_batch(id)? {
            self.end_batch(id)?;
            worked = true;
        }
        Ok(worked)
    }

    /// A message arrives, if its receiver is up.
    pub fn deliver(&mut self, message: Mail) -> Result<(), Failure> {
        let to = message.to.0;
        if self.machines.contains_key(&to) {
            self.act(to, |member| member.step(message))?;
        }
        Ok(())
    }

    /// Lets all writes end and all mail arrive until nothing is left.
    pub fn settle(&mut self) -> Result<(), Failure> {
        loop {
            let mut worked = false;
            for id in self.ids() {
                worked |= self.work(id)?;
            }
            let mail = std::mem::take(&mut self.mail);
            if !worked && mail.is_empty() {
                return Ok(());
            }
            for message in mail {
                self.deliver(message)?;
            }
        }
    }

    pub fn ids(&self) -> Vec<u64> {
        self.machines.keys().copied().collect()
    }

    /// Snapshots what a member has applied, and drops all but the last `keep` entries.
    pub fn snapshot(&mut self, id: u64, keep: u64) -> bool {
        let machine = self.machine(id);
        let (index, data, configuration) =
            (machine.applied_index, machine.applied.clone(), machine.configuration.clone());
        // The application may be ahead of what the core knows to be applied, while a batch is under way.
        let Some(member) = machine.member.as_mut().filter(|member| member.log().applied() == index) else {
            return false;
        };
        if member.store_snapshot(index, configuration, data).is_err() {
            return false;
        }
        machine.disk.snapshot = member.log().snapshot().cloned();
        machine.disk.entries.retain(|entry| entry.index > index);
        machine.disk.hard_state.commit = machine.disk.hard_state.commit.max(index);
        let _ = machine.member.as_mut().expect("it is up").compact(index.saturating_sub(keep));
        true
    }

    /// Checks the properties over whole logs.
    pub fn check_everything(&self) -> Result<(), Failure> {
        let down: Vec<_> =
            self.machines.values().filter(|machine| machine.member.is_none()).map(Machine::down).collect();
        let mut views: Vec<&dyn View> = down.iter().map(|view| view as &dyn View).collect();
        views
            .extend(self.machines.values().filter_map(|machine| machine.member.as_ref()).map(|view| view as &dyn View));
        check_all(&views)?;
        Ok(())
    }
}

impl Machine {
    fn down(&self) -> Down<'_, Word, Words> {
        Down { id: self.id, disk: &self.disk, applied: self.applied_index, configuration: &self.configuration }
    }

    fn apply(&mut self, batch: &Batch) {
        if let Some(snapshot) = &batch.snapshot {
            self.install(snapshot);
        }
        for entry in &batch.committed {
            self.apply_entry(entry);
        }
    }

    fn install(&mut self, snapshot: &Snapshot<Words>) {
        self.applied = snapshot.data.clone();
        self.applied_index = snapshot.last.index;
        self.configuration = snapshot.configuration.clone();
    }

    fn apply_entry(&mut self, entry: &Entry<Word>) {
        assert_eq!(entry.index, self.applied_index + 1, "applied without a gap");
        self.applied_index = entry.index;
        match &entry.data {
            Payload::Empty => {}
            Payload::Normal(word) => self.applied.push(word.clone()),
            Payload::Configuration(change) => {
                let member = self.member.as_mut().expect("it is up");
                if let Ok(configuration) = member.apply_configuration_change(*change) {
                    self.configuration = configuration.clone();
                }
            }
        }
    }

    fn write(&mut self, batch: &Batch) {
        if let Some(snapshot) = &batch.snapshot {
            self.disk.snapshot = Some(snapshot.clone());
            self.disk.entries.clear();
        }
        if let Some(first) = batch.entries.first() {
            self.disk.entries.retain(|entry| entry.index < first.index);
            self.disk.entries.extend(batch.entries.iter().cloned());
        }
        if let Some(hard_state) = batch.hard_state {
            self.unsynced_commit = hard_state.commit;
            self.disk.hard_state = HardState { commit: self.disk.hard_state.commit, ..hard_state };
        }
        if batch.must_sync {
            self.flush();
        }
    }

    fn flush(&mut self) {
        let last = self.disk.entries.last().map(|entry| entry.index);
        let snapshot = self.disk.snapshot.as_ref().map_or(0, |snapshot| snapshot.last.index);
        let commit = self.disk.hard_state.commit.max(self.unsynced_commit).max(snapshot);
        self.disk.hard_state.commit = commit.min(last.unwrap_or(snapshot).max(snapshot));
    }
}
