//! The store against a naive model of etcd that keeps a whole map for every revision.

mod model;
mod stories;

use std::rc::Rc;

use proptest::prelude::*;

use self::model::Model;
use super::readers::Reader;
use super::request::{Compare, DeleteRange, Operation, Put, Range, Relation, Target, Txn};
use super::shared::{Applied, Command, Outcome, SharedStore, Snapshot, View};
use crate::engine::process::ProcessId;
use crate::engine::time::{SimDuration, SimTime};
use crate::etcd::key::{Key, KeyRange};
use crate::etcd::lease::LeaseId;
use crate::etcd::watch::{StreamId, WatchBody, WatchEvent, WatchRequest, Watchers};

/// The value of all tests here.
pub(super) type Bytes = Rc<[u8]>;

/// What a random history consists of.
#[derive(Clone, Debug)]
enum Step {
    Put { key: u8, value: u8, lease: u8 },
    Delete { range: u8 },
    Swap { key: u8, guess: u8, value: u8 },
    Many { keys: [u8; 3], compare: u8, value: u8 },
    Compact { back: u8 },
    Grant { lease: u8 },
    Revoke { lease: u8 },
    Advance { member: u8, entries: u8 },
    Persist { member: u8 },
    Restart { member: u8 },
    Read { member: u8, range: u8, back: u8, limit: u8 },
    Watch { member: u8, range: u8, back: u8, kind: u8 },
    Sync { member: u8 },
    Tell { reader: u8, back: u8 },
}

fn step() -> impl Strategy<Value = Step> {
    let member = 0..3_u8;
    prop_oneof![
        6 => (0..8_u8, any::<u8>(), 0..6_u8).prop_map(|(key, value, lease)| Step::Put { key, value, lease }),
        2 => (0..12_u8).prop_map(|range| Step::Delete { range }),
        4 => (0..8_u8, 0..3_u8, any::<u8>()).prop_map(|(key, guess, value)| Step::Swap { key, guess, value }),
        2 => (proptest::array::uniform3(0..8_u8), 0..6_u8, any::<u8>())
            .prop_map(|(keys, compare, value)| Step::Many { keys, compare, value }),
        1 => (0..12_u8).prop_map(|back| Step::Compact { back }),
        1 => (0..4_u8).prop_map(|lease| Step::Grant { lease }),
        1 => (0..4_u8).prop_map(|lease| Step::Revoke { lease }),
        10 => (member.clone(), 0..5_u8).prop_map(|(member, entries)| Step::Advance { member, entries }),
        1 => member.clone().prop_map(|member| Step::Persist { member }),
        1 => member.clone().prop_map(|member| Step::Restart { member }),
        6 => (member.clone(), 0..12_u8, 0..12_u8, 0..5_u8)
            .prop_map(|(member, range, back, limit)| Step::Read { member, range, back, limit }),
        2 => (member.clone(), 0..12_u8, 0..8_u8, 0..8_u8)
            .prop_map(|(member, range, back, kind)| Step::Watch { member, range, back, kind }),
        2 => member.prop_map(|member| Step::Sync { member }),
        3 => (0..3_u8, 0..12_u8).prop_map(|(reader, back)| Step::Tell { reader, back }),
    ]
}

fn key(number: u8) -> Key {
    Key::from(["/a", "/a/1", "/a/2", "/a/b/1", "/a/b/2", "/b/1", "/b/2", "/c"][usize::from(number) % 8])
}

fn range(number: u8) -> KeyRange {
    match number {
        0..=5 => KeyRange::One(key(number)),
        6 => KeyRange::Prefix("/a/".into()),
        7 => KeyRange::Prefix("/a/b/".into()),
        8 => KeyRange::Prefix("/a".into()),
        9 => KeyRange::Between("/a/2".into(), "/b/2".into()),
        10 => KeyRange::From("/b".into()),
        _ => KeyRange::Prefix("".into()),
    }
}

fn bytes(value: u8) -> Bytes {
    Rc::from([value; 3])
}

fn put(number: u8, value: u8) -> Put<Bytes> {
    Put::new(key(number), bytes(value))
}

/// A watch as its client sees it. When its member restarts, the client goes on at once from where it was.
struct Client {
    stream: StreamId,
    member: usize,
    request: WatchRequest,
    received: Vec<WatchEvent<Bytes>>,
    canceled: Option<u64>,
}

/// One member: its view, its watchers, and what its disk holds.
struct Node {
    view: View<Bytes>,
    watchers: Watchers,
    durable: Snapshot,
    restarted: bool,
}

/// Where there are readers, and how many.
const READERS: [(&str, usize); 2] = [("/a/", 2), ("/b/", 1)];

/// One who has given its word on a prefix.
struct Promise {
    prefix: &'static str,
    from: u64,
    reader: Reader,
}

/// Three members over one store, the log, and the model that is always at the log's end.
struct World {
    store: SharedStore<Bytes>,
    promises: Vec<Promise>,
    model: Model,
    log: Vec<Command<Bytes>>,
    expected: Vec<(Snapshot, Outcome<Bytes>)>,
    nodes: Vec<Node>,
    clients: Vec<Client>,
    streams: u32,
}

impl World {
    fn new() -> World {
        let store = SharedStore::new();
        let node =
            || Node { view: store.view(), watchers: Watchers::default(), durable: Snapshot::EMPTY, restarted: false };
        let nodes = (0..3).map(|_| node()).collect();
        let prefixes = READERS.into_iter().flat_map(|(prefix, count)| std::iter::repeat_n(prefix, count));
        let promises =
            prefixes.map(|prefix| Promise { prefix, from: 0, reader: store.reader(prefix.into()) }).collect();
        World {
            promises,
            store,
            model: Model::new(),
            log: Vec::new(),
            expected: Vec::new(),
            nodes,
            clients: Vec::new(),
            streams: 0,
        }
    }

    fn propose(&mut self, command: Command<Bytes>) {
        if let Command::Txn(txn) = &command
            && txn.check().is_err()
        {
            return;
        }
        let outcome = self.model.apply(&command);
        let index = self.log.len() as u64 + 1;
        let at = Snapshot { index, revision: self.model.revision(), compacted: self.model.compacted };
        self.log.push(command);
        self.expected.push((at, outcome));
    }

    fn advance(&mut self, member: usize, entries: usize) {
        for _ in 0..entries {
            let node = &mut self.nodes[member];
            let place = node.view.applied_index() as usize;
            let Some(command) = self.log.get(place) else { return };
            let before = node.view.revision();
            let Applied { revision, changed } = node.view.apply(place as u64 + 1, 1, Some(command)).expect("one log");
            let (at, outcome) = &self.expected[place];
            assert_eq!(node.view.position(), *at, "{command:?}");
            assert_eq!(changed, revision > before);
            if let Some(answer) = node.view.outcome(place as u64 + 1, command)
                && !node.restarted
            {
                assert_eq!(answer, *outcome, "{command:?}");
            }
            if changed {
                let Node { view, watchers, .. } = node;
                let clients = &mut self.clients;
                watchers.notify(view, revision, &mut |(_, response)| receive(clients, response));
            }
        }
    }

    fn sync(&mut self, member: usize) {
        let Node { view, watchers, .. } = &mut self.nodes[member];
        let clients = &mut self.clients;
        watchers.sync(view, &mut |(_, response)| receive(clients, response));
    }

    fn restart(&mut self, member: usize) {
        let node = &mut self.nodes[member];
        node.view.crash();
        assert_eq!(node.view.restart(), node.durable);
        node.watchers = Watchers::default();
        node.restarted = true;
        for place in 0..self.clients.len() {
            let client = &mut self.clients[place];
            if client.member == member && client.canceled.is_none() {
                if let Some(last) = client.received.last() {
                    client.request.start = last.kv.modified + 1;
                }
                let request = client.request.clone();
                if request.start == 0 {
                    // It knew of no revision to go on from: it may miss what it never heard of, so it is given up.
                    client.canceled = Some(0);
                    continue;
                }
                self.streams += 1;
                client.stream.stream = self.streams;
                let stream = client.stream;
                let Node { view, watchers, .. } = &mut self.nodes[member];
                watchers.create(stream, request, view, SimTime::ZERO);
            }
        }
    }

    fn watch(&mut self, member: usize, over: u8, back: u8, kind: u8) {
        let Node { view, watchers, .. } = &mut self.nodes[member];
        self.streams += 1;
        let stream = StreamId { client: ProcessId(9), stream: self.streams };
        watchers.open(stream, SimDuration::from_secs(600));
        // From some revisions ago to three in the future.
        let start = (view.revision() + 4).saturating_sub(u64::from(back)).max(1);
        let request = WatchRequest {
            no_puts: kind & 1 != 0,
            no_deletes: kind & 2 != 0,
            previous: kind & 4 != 0,
            ..WatchRequest::new(1, range(over), start)
        };
        watchers.create(stream, request.clone(), view, SimTime::ZERO);
        self.clients.push(Client { stream, member, request, received: Vec::new(), canceled: None });
    }

    /// A read by a member shows what the model had when it had applied as much.
    fn read(&self, member: usize, over: u8, back: u8, limit: u8) {
        let node = &self.nodes[member];
        let at = node.view.position();
        let compacted = node.view.compacted();
        if !node.restarted {
            assert_eq!(compacted, at.compacted, "nothing is forgotten that a running member may read");
        }
        // From some revisions ago to one in the future; often the present.
        let revision = if back > 6 { 0 } else { (at.revision + 1).saturating_sub(u64::from(back)) };
        let request = Range { revision, limit: u64::from(limit), ..Range::of(range(over)) };
        let begins = node.view.history_begins(&request.range);
        assert!(begins <= compacted.max(self.promised(&request.range)), "a reader may still ask for what is gone");
        let expected = self.model.read(&request, at.revision, begins);
        assert_eq!(node.view.range(&request), expected, "{request:?} at {at:?}");
    }

    /// From where on all readers of the prefixes that a range touches have said that they may ask; the least of each prefix, the greatest
    /// of all prefixes.
    fn promised(&self, over: &KeyRange) -> u64 {
        let touched = READERS.into_iter().filter(|(prefix, _)| {
            (0..8).map(key).any(|key| key.starts_with(&Key::from(*prefix)) && over.contains(&key))
                || over.start().starts_with(&Key::from(*prefix))
        });
        let least = |prefix: &str| {
            let own = self.promises.iter().filter(|promise| promise.prefix == prefix);
            own.map(|promise| promise.from).min().unwrap_or(0)
        };
        touched.map(|(prefix, _)| least(prefix)).max().unwrap_or(0)
    }

    fn take(&mut self, step: Step) {
        match step {
            Step::Tell { reader, back } => {
                let newest = self.model.revision();
                let promise = &mut self.promises[usize::from(reader)];
                promise.from = promise.from.max(newest.saturating_sub(u64::from(back)));
                promise.reader.needs_from(promise.from);
                self.store.forget_what_was_told();
            }
            Step::Put { key, value, lease } => {
                let lease = LeaseId::new(u64::from(lease)).filter(|_| lease < 4);
                self.propose(Command::from(Txn::one(Operation::Put(Put { lease, ..put(key, value) }))));
            }
            Step::Delete { range: over } => {
                let delete = DeleteRange { range: range(over), previous: true };
                self.propose(Command::from(Txn::one(Operation::Delete(delete))));
            }
            Step::Swap { key: number, guess, value } => {
                let modified = match guess {
                    0 => 0,
                    1 => self.model.modified(&key(number)),
                    _ => self.model.revision(),
                };
                let compare = Compare::modified_at(key(number), modified);
                let read = Operation::Range(Range::key(key(number)));
                self.propose(Command::from(Txn::when(compare, Operation::Put(put(number, value))).otherwise(read)));
            }
            Step::Many { keys, compare, value } => self.propose(Command::from(many(keys, compare, value))),
            Step::Compact { back } => {
                self.propose(Command::Compact((self.model.revision() + 1).saturating_sub(u64::from(back))));
            }
            Step::Grant { lease } => {
                if let Some(id) = LeaseId::new(u64::from(lease)) {
                    self.propose(Command::LeaseGrant { id, ttl_s: 10 });
                }
            }
            Step::Revoke { lease } => {
                if let Some(id) = LeaseId::new(u64::from(lease)) {
                    self.propose(Command::LeaseRevoke(id));
                }
            }
            Step::Advance { member, entries } => self.advance(usize::from(member), usize::from(entries)),
            Step::Persist { member } => {
                let node = &mut self.nodes[usize::from(member)];
                node.view.persist();
                node.durable = node.view.position();
            }
            Step::Restart { member } => self.restart(usize::from(member)),
            Step::Read { member, range, back, limit } => self.read(usize::from(member), range, back, limit),
            Step::Watch { member, range, back, kind } => self.watch(usize::from(member), range, back, kind),
            Step::Sync { member } => self.sync(usize::from(member)),
        }
    }

    /// Everyone applies everything; then every client must have exactly what happened since its watch began.
    fn finish(mut self) {
        for member in 0..3 {
            self.advance(member, self.log.len());
            while self.nodes[member].watchers.wants_sync() {
                self.sync(member);
            }
            for over in 0..12 {
                for back in 0..8 {
                    self.read(member, over, back, over % 4);
                }
            }
        }
        for client in &self.clients {
            self.check_client(client);
        }
    }

    /// Ordered, unique, atomic and reliable at once: the events are those of the model, all of them and no others.
    /// Resumable: that holds although members restarted in between. After a cancellation they are a beginning of those.
    fn check_client(&self, client: &Client) {
        let begin = client.request.start.min(client.received.first().map_or(u64::MAX, |event| event.kv.modified));
        let all = self.model.events(&client.request, begin);
        let got = client.received.iter().map(|event| &event.kv);
        match client.canceled {
            None => assert!(got.eq(all.iter().map(|event| &event.kv)), "{:?}\n{all:?}", client.received),
            Some(_) => assert!(got.eq(all.iter().take(client.received.len()).map(|event| &event.kv))),
        }
        for (event, expected) in client.received.iter().zip(&all) {
            // What was there before may have been compacted away by then, but it is never anything else.
            assert!(event.previous.is_none() || event.previous == expected.previous, "{event:?} {expected:?}");
            assert!(client.request.previous || event.previous.is_none());
        }
    }
}

/// One transaction with several steps: two puts, a delete and a read of its own work, or only a read.
fn many(keys: [u8; 3], compare: u8, value: u8) -> Txn<Bytes> {
    let [first, second, third] = keys;
    let target = match compare {
        0 => Target::Version(2),
        1 => Target::Created(3),
        2 => Target::Modified(4),
        3 => Target::Lease(LeaseId::new(1)),
        _ => Target::Value(bytes(value)),
    };
    let relation = [Relation::Equal, Relation::NotEqual, Relation::Greater, Relation::Less][usize::from(value) % 4];
    let over = if value.is_multiple_of(2) { KeyRange::One(key(first)) } else { KeyRange::Prefix("/a/".into()) };
    let mut txn = Txn::when(Compare { range: over, relation, target }, Operation::Put(put(first, value)));
    txn.success.push(Operation::Put(Put { previous: true, ..put(second, value) }));
    txn.success.push(Operation::Delete(DeleteRange { range: range(third), previous: true }));
    txn.success.push(Operation::Range(Range::of(range(11))));
    txn.failure.push(Operation::Range(Range::of(range(6))));
    txn.failure.push(Operation::Put(put(third, value)));
    txn
}

fn receive(clients: &mut [Client], response: crate::etcd::watch::WatchResponse<Bytes>) {
    let client = clients.iter_mut().find(|client| client.stream.stream == response.stream).expect("a client's stream");
    match response.body {
        WatchBody::Events(events) => {
            let last = client.received.last().map_or(0, |event| event.kv.modified);
            assert!(events[0].kv.modified > last, "a revision is never split or sent twice");
            client.received.extend(events.iter().cloned());
        }
        WatchBody::Canceled { compact_revision, .. } => client.canceled = compact_revision,
        WatchBody::Created | WatchBody::Progress | WatchBody::Closed(_) => {}
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, max_shrink_iters: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn members_read_watch_and_answer_as_the_model_at_their_own_position(steps in proptest::collection::vec(step(), 1..120)) {
        let mut world = World::new();
        for step in steps {
            world.take(step);
        }
        world.finish();
    }
}
