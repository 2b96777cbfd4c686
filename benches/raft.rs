//! How many messages per second three members exchange in steady replication of 256-byte entries, on one core: every
//! append and every answer that is delivered counts, and all the rest (batches, commits, applying) is in the time.
//! Disks and network take no time here; what is measured is the core.

use std::collections::VecDeque;
use std::hint::black_box;
use std::rc::Rc;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use kubesim::engine::random::Seed;
use kubesim::etcd::raft::{
    Command, Configuration, Durable, HardState, MemberId, Message, Raft, Ready, Role, SafetyChecker, Settings,
};

/// An entry of 256 bytes, shared by all members.
#[derive(Clone)]
struct Request(Rc<[u8; 256]>);

impl Command for Request {
    fn size_bytes(&self) -> u64 {
        self.0.len() as u64
    }
}

struct Group {
    members: Vec<Raft<Request, ()>>,
    /// Batches of messages on their way, oldest first, and emptied ones to be used again.
    mail: VecDeque<Vec<Message<Request, ()>>>,
    spare: Vec<Vec<Message<Request, ()>>>,
    ready: Ready<Request, ()>,
    checker: Option<SafetyChecker>,
    delivered: u64,
    applied: u64,
}

impl Group {
    fn new(checker: Option<SafetyChecker>) -> Group {
        let configuration = Configuration::new((1..=3).map(MemberId), []);
        let members = (1..=3)
            .map(|id| {
                let durable = Durable {
                    hard_state: HardState::default(),
                    configuration: configuration.clone(),
                    snapshot: None,
                    entries: Vec::new(),
                };
                let chance = Seed(7).stream(&format!("etcd-{id}"), "election");
                Raft::new(MemberId(id), Settings::default(), chance, durable).expect("an empty disk is sound")
            })
            .collect();
        let mut group = Group {
            members,
            mail: VecDeque::new(),
            spare: Vec::new(),
            ready: Ready::default(),
            checker,
            delivered: 0,
            applied: 0,
        };
        group.members[0].campaign();
        group.settle();
        assert_eq!(group.members[0].role(), Role::Leader);
        group
    }

    fn observe(&mut self, member: usize) {
        if let Some(checker) = &mut self.checker {
            checker.observe(&self.members[member]).expect("the core is safe");
        }
    }

    /// Handles all batches of a member.
    fn work(&mut self, member: usize) {
        while self.members[member].ready(&mut self.ready) {
            self.applied += self.ready.committed.len() as u64;
            for messages in [&mut self.ready.messages_before_sync, &mut self.ready.messages_after_sync] {
                if !messages.is_empty() {
                    self.mail.push_back(std::mem::replace(messages, self.spare.pop().unwrap_or_default()));
                }
            }
            self.members[member].advance(self.ready.receipt).expect("no disk loses anything here");
            self.observe(member);
        }
    }

    /// Lets all mail arrive, each message handled to the end by its receiver before the next one.
    fn settle(&mut self) {
        self.work(0);
        while let Some(mut messages) = self.mail.pop_front() {
            for message in messages.drain(..) {
                self.delivered += 1;
                let to = message.to.0 as usize - 1;
                self.members[to].step(message).expect("no disk loses anything here");
                self.observe(to);
                self.work(to);
            }
            self.spare.push(messages);
        }
    }

    /// Proposes `entries` one after the other, with `window` of them on the way, and lets the members work after each
    /// message as a cluster would. Every thousand entries the logs are compacted.
    fn replicate(&mut self, entries: u64, window: u64) {
        let payload = Rc::new([0; 256]);
        for number in 0..entries {
            self.members[0].propose(Request(payload.clone())).expect("member 1 leads");
            self.observe(0);
            if number % window == window - 1 {
                self.settle();
            }
            if number % 1000 == 999 {
                for member in &mut self.members {
                    let index = member.log().applied();
                    member.store_snapshot(index, member.configuration().clone(), ()).expect("it is applied");
                    member.compact(index.saturating_sub(100)).expect("it is covered");
                }
            }
        }
    }
}

fn steady_replication(criterion: &mut Criterion) {
    let mut bench_group = criterion.benchmark_group("raft/messages");
    for (name, window, checked) in [
        ("one-by-one", 1, false),
        ("window-of-16", 16, false),
        ("one-by-one-checked", 1, true),
        ("window-of-16-checked", 16, true),
    ] {
        let mut group = Group::new(checked.then(SafetyChecker::new));
        let before = group.delivered;
        group.replicate(1000, window);
        let messages = group.delivered - before;
        bench_group.throughput(Throughput::Elements(messages));
        bench_group.bench_function(name, |bencher| {
            bencher.iter(|| {
                group.replicate(1000, window);
                black_box(group.applied)
            });
        });
    }
    bench_group.finish();
}

criterion_group!(benches, steady_replication);
criterion_main!(benches);
