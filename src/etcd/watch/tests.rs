//! What a watch is told, one rule each. That it is told everything, in order, is tested against a model in `mvcc`.

use std::rc::Rc;

use super::*;
use crate::etcd::mvcc::{Command, DeleteRange, Operation, Put, SharedStore, Txn};

type Bytes = Rc<[u8]>;

/// One member with watchers, and what was sent.
struct Member {
    view: View<Bytes>,
    watchers: Watchers,
    sent: Vec<WatchResponse<Bytes>>,
}

const STREAM: StreamId = StreamId { client: ProcessId(1), stream: 4 };

fn at(seconds: u64) -> SimTime {
    SimTime::ZERO + SimDuration::from_secs(seconds)
}

impl Member {
    fn new() -> Member {
        let mut watchers = Watchers::default();
        watchers.open(STREAM, PROGRESS_PERIOD);
        Member { view: SharedStore::new().view(), watchers, sent: Vec::new() }
    }

    fn run(&mut self, command: Command<Bytes>) {
        self.view.persist();
        let applied = self.view.apply(self.view.applied_index() + 1, 1, Some(&command)).expect("in order");
        if applied.changed {
            let Member { view, watchers, sent } = self;
            watchers.notify(view, applied.revision, &mut |(_, response)| sent.push(response));
        }
    }

    fn put(&mut self, key: &str) {
        self.run(Command::from(Txn::one(Operation::Put(Put::new(key.into(), Rc::from([1]))))));
    }

    fn watch(&mut self, request: WatchRequest) {
        let response = self.watchers.create(STREAM, request, &self.view, at(0));
        self.sent.push(response);
    }

    fn sync(&mut self) {
        let Member { view, watchers, sent } = self;
        watchers.sync(view, &mut |(_, response)| sent.push(response));
    }

    fn tick(&mut self, seconds: u64) {
        let Member { view, watchers, sent } = self;
        watchers.tick_progress(at(seconds), view, &mut |(_, response)| sent.push(response));
    }

    /// What was sent since the last call, one word each.
    fn said(&mut self) -> Vec<String> {
        let say = |response: WatchResponse<Bytes>| {
            let who = response.watch.map_or("all".to_owned(), |id| id.to_string());
            let what = match response.body {
                WatchBody::Created => "created".to_owned(),
                WatchBody::Canceled { reason, compact_revision } => format!("canceled {compact_revision:?} {reason}"),
                WatchBody::Progress => format!("progress {}", response.revision),
                WatchBody::Closed(error) => format!("closed {error}"),
                WatchBody::Events(events) => {
                    let word = |event: &WatchEvent<Bytes>| {
                        let sign = if event.is_delete() { "-" } else { "+" };
                        let was = event.previous.as_ref().map_or(String::new(), |kv| format!(" was@{}", kv.modified));
                        format!("{sign}{}@{}{was}", event.kv.key, event.kv.modified)
                    };
                    events.iter().map(word).collect::<Vec<_>>().join(" ")
                }
            };
            format!("{who}: {what}")
        };
        std::mem::take(&mut self.sent).into_iter().map(say).collect()
    }
}

fn all(id: WatchId, start: u64) -> WatchRequest {
    WatchRequest::new(id, KeyRange::Prefix("".into()), start)
}

#[test]
fn a_watch_begins_now_in_the_past_or_in_the_future() {
    let mut member = Member::new();
    ["a", "b"].iter().for_each(|key| member.put(key));
    (1..).zip([0, 2, 5]).for_each(|(id, start)| member.watch(all(id, start)));
    assert_eq!(member.said(), ["1: created", "2: created", "3: created"]);
    member.put("c");
    assert_eq!(member.said(), ["1: +c@4"]);
    member.sync();
    assert_eq!(member.said(), ["2: +a@2 +b@3 +c@4"]);
    member.put("d");
    assert_eq!(member.said(), ["1: +d@5", "2: +d@5", "3: +d@5"]);
}

#[test]
fn a_revision_comes_whole_and_filters_leave_out_what_is_not_wanted() {
    let mut member = Member::new();
    ["a/1", "a/2", "b"].iter().for_each(|key| member.put(key));
    member.watch(WatchRequest { no_puts: true, previous: true, ..all(1, 0) });
    member.watch(WatchRequest { no_deletes: true, ..all(2, 0) });
    member.watch(WatchRequest::new(3, KeyRange::Prefix("a/".into()), 0));
    member.said();
    let mut txn = Txn::one(Operation::Put(Put::new("b".into(), Rc::from([2]))));
    txn.success.push(Operation::Delete(DeleteRange { range: KeyRange::Prefix("a/".into()), previous: false }));
    member.run(Command::from(txn));
    assert_eq!(member.said(), ["1: -a/1@5 was@2 -a/2@5 was@3", "2: +b@5", "3: -a/1@5 -a/2@5"]);
}

#[test]
fn a_watch_that_needs_what_is_compacted_ends_and_one_at_the_compacted_revision_goes_on() {
    let mut member = Member::new();
    ["a", "a", "a", "b"].iter().for_each(|key| member.put(key));
    member.run(Command::Compact(4));
    member.watch(all(1, 3));
    member.watch(WatchRequest { previous: true, ..all(2, 4) });
    member.said();
    member.sync();
    assert_eq!(member.said(), ["1: canceled Some(4) ", "2: +a@4 +b@5"]);
    member.put("a");
    assert_eq!(member.said(), ["2: +a@6 was@4"]);
}

#[test]
fn what_cannot_begin_is_refused() {
    let mut member = Member::new();
    member.watch(WatchRequest::new(1, KeyRange::Between("b".into(), "a".into()), 0));
    member.watch(all(2, 0));
    member.watch(all(2, 0));
    let expected = [
        "1: canceled None mvcc: watcher range is empty",
        "2: created",
        "2: canceled None mvcc: duplicate watch ID provided on the WatchStream",
    ];
    assert_eq!(member.said(), expected);
    let canceled = member.watchers.cancel(STREAM, 2, &member.view).expect("it was there");
    assert!(matches!(canceled.body, WatchBody::Canceled { compact_revision: None, .. }));
    member.put("a");
    assert_eq!(member.said(), Vec::<String>::new());
}

#[test]
fn progress_is_told_only_by_watches_with_nothing_else_to_say_and_only_when_all_are_caught_up() {
    let mut member = Member::new();
    member.put("a");
    member.watch(WatchRequest { progress: true, ..WatchRequest::new(1, KeyRange::Prefix("a".into()), 0) });
    member.watch(WatchRequest { progress: true, ..WatchRequest::new(2, KeyRange::Prefix("b".into()), 0) });
    member.put("a");
    member.said();
    assert_eq!(member.watchers.next_progress(), Some(at(600)));
    member.tick(600);
    assert_eq!(member.said(), ["2: progress 3"]);
    member.tick(1200);
    assert_eq!(member.said(), ["1: progress 3", "2: progress 3"]);
    member.watch(all(3, 2));
    assert!(member.watchers.progress(STREAM, &member.view).is_none(), "watch 3 is not caught up");
    member.sync();
    let progress = member.watchers.progress(STREAM, &member.view).expect("all are caught up");
    assert_eq!((progress.watch, progress.revision), (None, 3));
    member.watchers.restore();
    assert!(member.watchers.progress(STREAM, &member.view).is_none(), "after a snapshot all catch up anew");
}

#[test]
fn a_batch_of_the_past_holds_at_most_a_thousand_revisions() {
    let mut member = Member::new();
    (0..2500).for_each(|_| member.put("a"));
    member.watch(all(1, 2));
    member.sent.clear();
    let mut sizes = Vec::new();
    while member.watchers.wants_sync() {
        member.sync();
        for response in member.sent.drain(..) {
            let WatchBody::Events(events) = response.body else { panic!("only events are due") };
            sizes.push((events.len(), events[0].kv.modified));
        }
    }
    assert_eq!(sizes, [(1000, 2), (1000, 1002), (500, 2002)]);
}

#[test]
fn a_lost_client_leaves_nothing_behind() {
    let mut member = Member::new();
    member.watch(all(1, 0));
    member.put("a");
    member.watch(all(2, 1));
    member.watchers.drop_client(STREAM.client);
    member.said();
    member.put("b");
    member.sync();
    assert!(member.said().is_empty() && !member.watchers.wants_sync() && !member.watchers.is_open(STREAM));
}
