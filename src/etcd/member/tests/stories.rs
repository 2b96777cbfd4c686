//! What a cluster does when nothing, or one thing, goes wrong.

use super::harness::{World, member, ms};
use crate::engine::process::ProcessId;
use crate::engine::time::{SimDuration, SimTime};
use crate::etcd::error::{Code, Error};
use crate::etcd::key::{Key, KeyRange};
use crate::etcd::lease::LeaseId;
use crate::etcd::member::Settings;
use crate::etcd::message::{Reply, Request, Response, WatchCommand};
use crate::etcd::mvcc::{Operation, Put, Range, Txn};
use crate::etcd::watch::{WatchBody, WatchRequest, WatchResponse};

type Bytes = super::harness::Bytes;

fn value(response: &Response<Bytes>) -> Option<u8> {
    let Ok(Reply::Range(result)) = &response.result else { panic!("{response:?}") };
    result.kvs.first().and_then(|kv| kv.value.as_ref()).map(|value| value[0])
}

fn error(response: &Response<Bytes>) -> Error {
    *response.result.as_ref().expect_err("refused")
}

fn seconds(time: SimDuration) -> u64 {
    (time.as_millis() + 500) / 1000
}

#[test]
fn a_write_anywhere_is_read_everywhere() {
    for members in [1, 3, 5] {
        let mut world = World::ready(members, 7);
        for number in 1..=members {
            let put = world.put(member(number), "a", number as u8);
            let (took, response) = world.answer(put);
            assert!(response.result.is_ok() && took < ms(5), "{took}");
            let revision = response.revision;
            for reader in 1..=members {
                let get = world.get(member(reader), "a", false);
                let (took, response) = world.answer(get);
                assert_eq!((value(response), response.revision), (Some(number as u8), revision));
                assert!(took < ms(5), "{took}");
            }
        }
    }
}

#[test]
fn a_write_through_three_members_takes_few_events() {
    let mut world = World::ready(3, 3);
    let leader = world.leader().expect("ready");
    world.run_for(ms(1));
    let (before, began) = (world.handled, world.now);
    let puts: Vec<u64> = (0..1000)
        .map(|number| {
            let put = world.put(leader, &format!("key-{number}"), 1);
            world.answer(put);
            put
        })
        .collect();
    world.run_for(ms(10));
    let idle = world.now.since(began).as_millis() * 7 / 100 + 100;
    let each = (world.handled - before - idle) / puts.len() as u64;
    assert!((10..=16).contains(&each), "{each} events for each put");
}

#[test]
fn writes_that_arrive_during_a_sync_share_the_next_one() {
    let mut world = World::ready(3, 5);
    let leader = world.leader().expect("ready");
    for own in [1, 2, 3] {
        world.hang_disk(member(own), ms(10));
    }
    let puts: Vec<u64> = (0..500).map(|number| world.put(leader, &format!("key-{number}"), 1)).collect();
    let slowest = puts.iter().map(|&put| world.answer(put).0).max().expect("there are puts");
    assert!(slowest < ms(50), "one by one they would take five seconds, not {slowest}");
}

#[test]
fn every_answer_leads_back_to_its_own_request_however_many_travel_together() {
    let mut world = World::ready(3, 5);
    for own in [1, 2, 3] {
        world.hang_disk(member(own), ms(3));
    }
    let mut asked = Vec::new();
    for number in 0..300_u32 {
        let to = member(number % 3 + 1);
        asked.push(if number % 5 == 0 {
            world.get(to, "key-1", false)
        } else {
            world.put(to, &format!("key-{number}"), 1)
        });
        world.run_for(SimDuration::from_micros(200));
    }
    let answered = asked.iter().filter(|id| world.answer(**id).1.result.is_ok()).count();
    assert_eq!(answered, asked.len());
    for id in &asked {
        let passed: Vec<&u64> = asked.iter().filter(|other| leads_to(&world, id, other)).collect();
        assert_eq!(passed, [id], "of all requests the chain meets its own");
    }
    // A write that travels alone leads back through the log: to a disk at least, and as a rule to another member.
    let mut long = 0;
    for number in 0..9_u32 {
        let id = world.put(member(number % 3 + 1), "alone", 1);
        world.answer(id);
        world.run_for(ms(50));
        assert!(leads_to(&world, &id, &id));
        long += usize::from(world.chain(world.answered_by[&id]).count() > 3);
    }
    assert!(long >= 7, "{long} of 9");
}

/// Whether what led to the answer of one request goes back to the arrival of another.
fn leads_to(world: &World, id: &u64, other: &u64) -> bool {
    world.chain(world.answered_by[id]).any(|event| event == world.arrivals[other])
}

#[test]
fn the_refusal_table_when_the_leader_survives() {
    let mut world = World::ready(3, 11);
    let leader = world.leader().expect("ready");
    let first = world.put(leader, "a", 1);
    world.answer(first);
    for other in world.followers() {
        world.crash(other);
    }
    let at_once = world.put(leader, "a", 2);
    let read = world.get(leader, "a", false);
    let (took, response) = world.answer(at_once);
    assert_eq!((seconds(took), error(response).text()), (7, "etcdserver: request timed out"));
    assert_eq!(error(response).code(), Code::Unavailable);
    let (took, response) = world.answer(read);
    assert_eq!((seconds(took), error(response)), (7, Error::Timeout));
    let local = world.get(leader, "a", true);
    let (took, response) = world.answer(local);
    assert_eq!(value(response), Some(1));
    assert!(took <= ms(3));
    let status = world.ask(leader, Request::Status);
    let (took, response) = world.answer(status);
    assert!(took <= ms(3), "{took}");
    let Ok(Reply::Status(status)) = response.result else { panic!("status is always answered") };
    assert_eq!(status.leader, None, "check-quorum has made it step down");
    let late = world.put(leader, "a", 3);
    let (took, response) = world.answer(late);
    assert_eq!((seconds(took), error(response).text()), (7, "context deadline exceeded"));
    assert_eq!(error(response).code(), Code::Unknown);
    assert_gives_up_after_a_second(&mut world, leader);
    let back = world.followers().into_iter().find(|&other| other != leader).expect("two are down");
    world.start(back);
    world.run_for(ms(4000));
    let read = world.get(leader, "a", false);
    assert_eq!(
        value(world.answer(read).1),
        Some(2),
        "the first was in the log and is applied after all, the later one never"
    );
}

#[test]
fn the_refusal_table_when_the_leader_is_lost_too() {
    let mut world = World::ready(3, 12);
    let leader = world.leader().expect("ready");
    let survivor = world.followers()[0];
    let first = world.put(leader, "a", 1);
    world.answer(first);
    world.run_for(ms(200));
    for number in 1..=3 {
        if member(number) != survivor {
            world.crash(member(number));
        }
    }
    let at_once = world.put(survivor, "a", 2);
    let read = world.get(survivor, "a", false);
    let (took, response) = world.answer(at_once);
    assert_eq!((seconds(took), error(response)), (7, Error::Timeout), "forwarded to the dead leader and lost");
    let (took, response) = world.answer(read);
    assert_eq!((seconds(took), error(response)), (7, Error::Timeout));
    let local = world.get(survivor, "a", true);
    let (took, response) = world.answer(local);
    assert!(took <= ms(3), "{took}");
    assert_eq!(value(response), Some(1));
    let late = world.put(survivor, "a", 3);
    let (took, response) = world.answer(late);
    assert_eq!((seconds(took), error(response)), (7, Error::DeadlineExceeded));
    let status = world.ask(survivor, Request::Status);
    let (took, response) = world.answer(status);
    assert!(took <= ms(3) && response.result.is_ok(), "status is always answered");
    assert_gives_up_after_a_second(&mut world, survivor);
    world.start(leader);
    world.run_for(ms(4000));
    let read = world.get(leader, "a", false);
    assert_eq!(value(world.answer(read).1), Some(1), "none of the writes that timed out is applied");
}

/// A client that waits for a second hears nothing in that second; what the member says then is that the time is over. Measured
/// was either the member's word (UNKNOWN, `context deadline exceeded`) or the client's own (DEADLINE_EXCEEDED).
fn assert_gives_up_after_a_second(world: &mut World, member: ProcessId) {
    let second = SimDuration::from_secs(1);
    let put = world.put_within(member, "a", 4, second);
    let read = world.ask_within(member, Range::key(Key::from("a")).into(), Some(second));
    for id in [put, read] {
        let (took, response) = world.answer(id);
        assert_eq!((error(response).text(), error(response).code()), ("context deadline exceeded", Code::Unknown));
        assert!(took > second && took < second + ms(3), "{took}");
    }
}

/// From the start of one of two lost members to the first acknowledged write at the survivor, in milliseconds.
fn recovery(seed: u64, leader_survives: bool) -> u64 {
    let mut world = World::ready(3, seed);
    let (leader, followers) = (world.leader().expect("ready"), world.followers());
    let survivor = if leader_survives { leader } else { followers[0] };
    let lost: Vec<ProcessId> = (1..=3).map(member).filter(|own| *own != survivor).collect();
    lost.iter().for_each(|own| world.crash(*own));
    world.run_for(ms(20_000 + seed * 37 % 1000));
    world.start(lost[0]);
    let started = world.now;
    let mut puts = Vec::new();
    while world.now.since(started) < SimDuration::from_secs(10) {
        puts.push(world.put(survivor, "a", 1));
        world.run_for(ms(10));
        let done = |id: &u64| world.answers.get(id).is_some_and(|(_, response)| response.result.is_ok());
        if puts.iter().any(done) {
            return world.now.since(started).as_millis();
        }
    }
    panic!("two of three are a quorum");
}

/// Measured were 0.58 and 0.38 s where the leader had survived, 0.23 and 0.83 s where it had not. The one that starts skips all
/// but two ticks of its first wait, and the survivor has been calling for an election every second or two.
#[test]
fn a_member_that_comes_back_makes_a_quorum_as_soon_as_measured() {
    for (leader_survives, measured) in [(true, [580, 380]), (false, [230, 830])] {
        let mut times: Vec<u64> = (0..40).map(|seed| recovery(3000 + seed, leader_survives)).collect();
        times.sort_unstable();
        let (least, most) = (times[0], times[times.len() - 1]);
        assert!(least <= 200 && (900..=2000).contains(&most), "{times:?}");
        for time in measured {
            assert!((least..=most).contains(&time), "{time} ms was measured, seen were {times:?}");
        }
    }
}

#[test]
fn reads_that_wait_when_the_leader_changes_are_told_so() {
    let mut world = World::ready(3, 21);
    let leader = world.leader().expect("ready");
    let follower = world.followers()[0];
    world.crash(leader);
    world.run_for(ms(2));
    let read = world.get(follower, "a", false);
    let (took, response) = world.answer(read);
    assert_eq!(error(response), Error::LeaderChanged);
    assert!(took < ms(2000), "{took}");
    let again = world.get(follower, "a", false);
    assert_eq!(value(world.answer(again).1), None);
}

#[test]
fn a_read_whose_index_is_known_waits_for_it_to_be_applied_however_long_and_asks_nobody_meanwhile() {
    let mut waited = 0;
    for delay in 0..40 {
        let mut world = World::ready(3, 23);
        let (leader, followers) = (world.leader().expect("ready"), world.followers());
        world.partition(&followers[..1]);
        let put = world.put(leader, "a", 1);
        assert!(world.answer(put).1.result.is_ok());
        world.heal();
        // The follower learns from the leader which index it needs, and then, perhaps, nothing more.
        let read = world.get(followers[0], "a", false);
        world.run_for(SimDuration::from_micros(delay * 500));
        let others = [leader, followers[1]];
        others.iter().for_each(|other| world.crash(*other));
        let (end, handled) = (world.now + SimDuration::from_secs(10), world.handled);
        world.run_until(end, |world| world.handled > handled + 20_000);
        assert_eq!(world.now, end, "time does not go on");
        let is_open = !world.answers.contains_key(&read);
        others.iter().for_each(|other| world.start(*other));
        let (took, response) = world.answer(read);
        if is_open {
            assert_eq!(value(response), Some(1));
            assert!(took > SimDuration::from_secs(10), "{took}");
            waited += 1;
        }
    }
    assert!(waited > 0, "no read waited for what it needs");
}

#[test]
fn a_leader_with_a_hung_disk_goes_silent_and_another_takes_over() {
    let mut world = World::ready(3, 31);
    let leader = world.leader().expect("ready");
    world.hang_disk(leader, SimDuration::from_secs(20));
    world.put(leader, "a", 1);
    world.run_for(ms(3000));
    let next = world.leader().expect("another one");
    assert_ne!(next, leader);
    let status = world.ask(leader, Request::Status);
    let (took, response) = world.answer(status);
    assert!(took <= ms(3), "{took}");
    let Ok(Reply::Status(status)) = response.result else { panic!("status is always answered") };
    assert_eq!(status.leader, Some(leader), "it takes itself for the leader as long as its disk hangs");
    let put = world.put(next, "a", 2);
    assert!(world.answer(put).1.result.is_ok());
}

#[test]
fn a_watch_follows_across_a_leader_crash_and_ends_without_a_leader() {
    let mut world = World::ready(3, 41);
    let (leader, survivor) = (world.leader().expect("ready"), world.followers()[0]);
    let request = WatchRequest::new(1, KeyRange::Prefix("a".into()), 0);
    world.watch(survivor, 1, WatchCommand::Create { request, require_leader: true });
    let put = world.put(leader, "a1", 1);
    world.answer(put);
    world.crash(leader);
    world.run_for(ms(2500));
    let put = world.put(world.leader().expect("a new one"), "a2", 2);
    world.answer(put);
    world.run_for(ms(200));
    let events = |world: &World| {
        let count = |(_, response): &(SimTime, WatchResponse<Bytes>)| match &response.body {
            WatchBody::Events(events) => events.iter().map(|event| event.kv.modified).collect(),
            _ => Vec::new(),
        };
        world.watched.iter().flat_map(count).collect::<Vec<u64>>()
    };
    assert_eq!(events(&world), [2, 3]);
    let other = world.followers().into_iter().chain(world.leader()).find(|&own| own != survivor && own != leader);
    world.crash(other.expect("three members"));
    let lost = world.now;
    let closed = |world: &World| {
        let last = world.watched.last();
        matches!(last, Some((_, WatchResponse { body: WatchBody::Closed(Error::NoLeader), .. })))
    };
    assert!(world.run_until(lost + ms(8000), closed));
    assert!(world.now.since(lost) > ms(2000), "not before three election timeouts are counted");
}

#[test]
fn a_lease_ends_on_time_and_a_new_leader_gives_it_its_full_time_again() {
    let mut world = World::ready(3, 51);
    let leader = world.leader().expect("ready");
    let grant = world.ask(leader, Request::LeaseGrant { id: LeaseId::new(9), ttl_s: 5 });
    let Ok(Reply::Lease { id: lease, ttl_s: 5 }) = world.answer(grant).1.result else { panic!("granted") };
    let granted = world.now;
    let put = Put { lease: Some(lease), ..Put::new(Key::from("e"), std::rc::Rc::from([1])) };
    let put = world.ask(leader, Txn::one(Operation::Put(put)).into());
    world.answer(put);
    let follower = world.followers()[0];
    world.run_for(ms(3000));
    let keep = world.ask(follower, Request::LeaseKeepAlive(lease));
    assert!(matches!(world.answer(keep).1.result, Ok(Reply::Lease { ttl_s: 5, .. })), "by way of the leader");
    let kept = world.now;
    world.run_for(ms(4000));
    world.crash(leader);
    world.run_until(world.now + ms(3000), |world| world.leader().is_some());
    let elected = world.now;
    let next = world.leader().expect("a new one");
    let gone = |world: &World| world.member(next).view().lease_ttl_s(lease).is_none();
    assert!(world.run_until(elected + ms(10_000), gone));
    let lived = world.now.since(elected);
    assert!(
        (ms(6000)..ms(6700)).contains(&lived),
        "five seconds and an election timeout, to the next half second: {lived}"
    );
    assert!(world.now.since(granted) > ms(12_000) && world.now.since(kept) > ms(9000));
    let read = world.get(next, "e", false);
    assert_eq!(value(world.answer(read).1), None);
    let keep = world.ask(next, Request::LeaseKeepAlive(lease));
    assert_eq!(error(world.answer(keep).1), Error::LeaseNotFound);
}

#[test]
fn a_lease_that_ends_early_is_not_overlooked_behind_a_long_one() {
    let mut world = World::ready(1, 52);
    for (id, ttl_s) in [(1, 3600), (2, 1)] {
        let grant = world.ask(member(1), Request::LeaseGrant { id: LeaseId::new(id), ttl_s });
        world.answer(grant);
    }
    world.run_for(ms(1900));
    let left = |world: &World| world.member(member(1)).view().leases().len();
    assert_eq!(left(&world), 2, "the least time to live is two seconds");
    world.run_for(ms(700));
    assert_eq!(left(&world), 1);
}

#[test]
fn a_member_that_was_away_catches_up_from_the_log_or_a_snapshot() {
    let settings = Settings { snapshot_entries: 50, catch_up_entries: 20, ..Settings::default() };
    for (writes, seed) in [(15, 61), (400, 62)] {
        let mut world = World::ready_with(3, seed, settings.clone());
        let (leader, away) = (world.leader().expect("ready"), world.followers()[0]);
        world.crash(away);
        for number in 0..writes {
            let put = world.put(leader, &format!("k{}", number % 30), number as u8);
            world.answer(put);
        }
        world.start(away);
        let revision = world.member(leader).view().revision();
        let caught_up = |world: &World| world.member(away).view().revision() == revision;
        let end = world.now + ms(3000);
        assert!(world.run_until(end, caught_up), "{:?} is not at {revision}", world.member(away).view());
        let core = world.member(away).core().expect("it runs");
        assert_eq!(core.log().snapshot().is_some(), writes > 100, "by a snapshot only if the log does not reach back");
        let get = world.get(away, &format!("k{}", (writes - 1) % 30), true);
        assert_eq!(value(world.answer(get).1), Some((writes - 1) as u8));
    }
}

#[test]
fn a_crash_between_receiving_a_snapshot_and_writing_it_leaves_the_old_log() {
    let settings = Settings { snapshot_entries: 50, catch_up_entries: 20, ..Settings::default() };
    let mut world = World::ready_with(3, 63, settings);
    let (leader, away) = (world.leader().expect("ready"), world.followers()[0]);
    let write = |world: &mut World, count: u8| {
        for number in 0..count {
            let put = world.put(leader, "a", number);
            world.answer(put);
        }
    };
    write(&mut world, 10);
    world.crash(away);
    write(&mut world, 200);
    world.hang_disk(away, ms(200));
    world.start(away);
    let received = |world: &World| world.member(away).core().is_some_and(|core| core.log().first_index() > 100);
    let end = world.now + ms(3000);
    assert!(world.run_until(end, received));
    assert!(world.member(away).view().revision() < 20, "received and not yet written");
    world.crash(away);
    let disk = world.member(away).disk().expect("it does not run");
    assert!(disk.snapshot.is_none() && disk.entries.len() >= 10);
    world.start(away);
    world.run_for(ms(3000));
    assert_eq!(world.member(away).failure(), None);
    assert_eq!(world.member(away).view().revision(), world.member(leader).view().revision());
}

#[test]
fn what_cannot_be_done_is_refused_with_etcds_words() {
    let mut world = World::ready(3, 91);
    let to = world.followers()[0];
    let put = |key: &str, bytes: usize| Operation::Put(Put::new(Key::from(key), Bytes::from(vec![0; bytes])));
    let mut twice = Txn::one(put("a", 1));
    twice.success.push(put("a", 1));
    let mut many = Txn::one(put("a", 1));
    many.success.extend((0..128).map(|number| put(&number.to_string(), 1)));
    let lease = Put { lease: LeaseId::new(77), ..Put::new(Key::from("a"), Bytes::from([1])) };
    let refused: [(Request<Bytes>, &str); 9] = [
        (Txn::one(put("", 1)).into(), "etcdserver: key is not provided"),
        (Txn::one(put("a", 2_000_000)).into(), "etcdserver: request is too large"),
        (twice.into(), "etcdserver: duplicate key given in txn request"),
        (many.into(), "etcdserver: too many operations in txn request"),
        (Txn::one(Operation::Put(lease)).into(), "etcdserver: requested lease not found"),
        (Request::Compact(99), "etcdserver: mvcc: required revision is a future revision"),
        (Request::LeaseGrant { id: None, ttl_s: 9_000_000_001 }, "etcdserver: too large lease TTL"),
        (Request::MoveLeader(to), "etcdserver: not leader"),
        (Request::MemberRemove(member(9)), "etcdserver: member not found"),
    ];
    for (request, text) in refused {
        let asked = world.ask(to, request);
        assert_eq!(error(world.answer(asked).1).text(), text);
    }
    let write = world.put(to, "a", 1);
    assert_eq!(world.answer(write).1.revision, 2, "nothing of all that has changed the store");
    for (compact, result) in [(2, None), (2, Some(Error::Compacted))] {
        let asked = world.ask(to, Request::Compact(compact));
        assert_eq!(world.answer(asked).1.result.as_ref().err().copied(), result);
    }
    for (revision, expected) in [(1, Error::Compacted), (3, Error::FutureRevision)] {
        let read = world.ask(to, Range { revision, ..Range::key(Key::from("a")) }.into());
        assert_eq!(error(world.answer(read).1), expected);
    }
}

#[test]
fn members_join_are_promoted_leave_and_hand_over() {
    let mut world = World::ready(3, 71);
    let leader = world.leader().expect("ready");
    world.run_for(ms(6000));
    let put = world.put(leader, "a", 1);
    world.answer(put);
    let fourth = member(4);
    world.add_joining(fourth);
    world.start(fourth);
    let add = world.ask(leader, Request::MemberAdd { member: fourth, learner: true });
    let Ok(Reply::Members { voters, learners }) = &world.answer(add).1.result else { panic!("added") };
    assert_eq!((voters.len(), &learners[..]), (3, &[fourth][..]));
    let more = world.ask(leader, Request::MemberAdd { member: member(5), learner: true });
    assert_eq!(error(world.answer(more).1), Error::TooManyLearners);
    world.run_for(ms(1000));
    let read = world.get(fourth, "a", false);
    assert_eq!(error(world.answer(read).1), Error::NotSupportedForLearner);
    let read = world.get(fourth, "a", true);
    assert_eq!(value(world.answer(read).1), Some(1));
    let promote = world.ask(leader, Request::MemberPromote(fourth));
    let Ok(Reply::Members { voters, .. }) = &world.answer(promote).1.result else { panic!("promoted") };
    assert_eq!(voters.len(), 4);
    let moved = world.ask(leader, Request::MoveLeader(fourth));
    assert!(matches!(world.answer(moved).1.result, Ok(Reply::Moved)));
    assert_eq!(world.leader(), Some(fourth));
    world.run_for(ms(6000));
    let remove = world.ask(fourth, Request::MemberRemove(leader));
    let Ok(Reply::Members { voters, .. }) = &world.answer(remove).1.result else { panic!("removed") };
    assert_eq!(voters.len(), 3);
    world.run_for(ms(2000));
    assert!(!world.member(leader).is_running());
    let put = world.put(fourth, "a", 2);
    assert!(world.answer(put).1.result.is_ok());
}

#[test]
fn a_cluster_of_one_is_ready_at_once_and_keeps_what_it_acknowledged() {
    let mut world = World::new(1, 81, Settings::default());
    world.start(member(1));
    let put = world.put(member(1), "a", 1);
    let (took, response) = world.answer(put);
    assert!(response.result.is_ok() && took < ms(1200), "{took}");
    world.crash(member(1));
    world.start(member(1));
    world.run_for(ms(1500));
    let get = world.get(member(1), "a", false);
    assert_eq!(value(world.answer(get).1), Some(1));
}
