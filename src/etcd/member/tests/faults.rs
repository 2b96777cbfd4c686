//! Many random histories with crashes and partitions, and the time that an election takes.

use super::harness::{World, member, ms};
use crate::engine::random::{Seed, Stream};
use crate::engine::time::{SimDuration, SimTime};
use crate::etcd::key::KeyRange;
use crate::etcd::member::Settings;
use crate::etcd::message::{Reply, WatchCommand};
use crate::etcd::mvcc::Range;
use crate::etcd::watch::{WatchBody, WatchRequest};

/// A write that was acknowledged, with the revision it got.
struct Acknowledged {
    key: String,
    value: u8,
    revision: u64,
    at: SimTime,
}

/// A client that watches everything, goes to another member when its own is down, and sometimes for no reason.
struct Follower {
    stream: u32,
    member: u32,
    next: u64,
    read: usize,
    /// The revision and key of each event.
    events: Vec<(u64, String)>,
}

impl Follower {
    fn open(&mut self, world: &mut World, own: u32) {
        (self.stream, self.member) = (self.stream + 1, own);
        let request = WatchRequest::new(1, KeyRange::Prefix("".into()), self.next);
        world.watch(member(own), self.stream, WatchCommand::Create { request, require_leader: false });
    }

    /// Takes what has arrived. No revision comes twice, none out of order.
    fn follow(&mut self, world: &World) {
        for (_, response) in &world.watched[self.read..] {
            let WatchBody::Events(events) = &response.body else { continue };
            if response.stream != self.stream {
                continue;
            }
            for event in events.iter() {
                assert!(event.kv.modified >= self.next, "revision {} again", event.kv.modified);
                self.next = event.kv.modified + 1;
                self.events.push((event.kv.modified, event.kv.key.to_string()));
            }
        }
        self.read = world.watched.len();
    }
}

/// Writes and reads at random members while members crash, restart and are cut off.
fn history(seed: u64, members: u32) -> usize {
    let settings = Settings { snapshot_entries: 40, catch_up_entries: 10, ..Settings::default() };
    let mut world = World::ready_with(members, seed, settings);
    let mut follower = Follower { stream: 0, member: 1, next: 2, read: 0, events: Vec::new() };
    follower.open(&mut world, 1);
    let mut chance = Seed(seed).stream("faults", "history");
    let (mut writes, mut reads) = (Vec::new(), Vec::new());
    for number in 0..150_u32 {
        let to = member(chance.between(1, u64::from(members)) as u32);
        let key = format!("key-{number}");
        match chance.below(20) {
            0 => world.crash(to),
            1..=3 => (1..=members).map(member).for_each(|own| {
                if !world.member(own).is_running() {
                    world.start(own);
                }
            }),
            4 => world.partition(&[to]),
            5 | 6 => world.heal(),
            7..=9 => reads.push((world.get(to, "key", false), world.now)),
            _ => writes.push((world.put(to, &key, number as u8), key, number as u8)),
        }
        world.run_for(SimDuration::from_micros(chance.below(400_000)));
        follower.follow(&world);
        if !world.member(member(follower.member)).is_running() || chance.ratio(1, 20) {
            follower.open(&mut world, chance.between(1, u64::from(members)) as u32);
        }
    }
    world.heal();
    (1..=members).map(member).for_each(|own| {
        if !world.member(own).is_running() {
            world.start(own);
        }
    });
    follower.open(&mut world, 1);
    world.run_for(SimDuration::from_secs(10));
    follower.follow(&world);
    let mut acknowledged = Vec::new();
    for (id, key, value) in writes {
        if let Some((at, response)) = world.answers.get(&id)
            && let Ok(Reply::Txn(_)) = response.result
        {
            acknowledged.push(Acknowledged { key, value, revision: response.revision, at: *at });
        }
    }
    check_survival(&mut world, members, &acknowledged);
    check_watch(&mut world, &follower);
    check_reads(&world, &reads, &acknowledged);
    acknowledged.len()
}

fn check_survival(world: &mut World, members: u32, acknowledged: &[Acknowledged]) {
    for number in 1..=members {
        assert_eq!(world.member(member(number)).failure(), None);
        for write in acknowledged {
            let get = world.get(member(number), &write.key, number == 3);
            let (_, response) = world.answer(get);
            let Ok(Reply::Range(result)) = &response.result else { panic!("{response:?}") };
            let kv = result.kvs.first().unwrap_or_else(|| panic!("{} was acknowledged and is lost", write.key));
            assert_eq!((kv.modified, kv.value.as_deref()), (write.revision, Some(&[write.value][..])));
        }
    }
}

/// Every key was written at most once, so the watch must have shown exactly the keys that are there, in their order.
fn check_watch(world: &mut World, follower: &Follower) {
    let all = world.ask(member(2), Range::of(KeyRange::Prefix("".into())).into());
    let Ok(Reply::Range(result)) = &world.answer(all).1.result else { panic!("readable") };
    let mut written: Vec<_> = result.kvs.iter().map(|kv| (kv.modified, kv.key.to_string())).collect();
    written.sort_unstable();
    assert_eq!(follower.events, written);
}

/// A linearizable read shows at least what was acknowledged before it began.
fn check_reads(world: &World, reads: &[(u64, SimTime)], acknowledged: &[Acknowledged]) {
    for (id, began) in reads {
        let Some((_, response)) = world.answers.get(id) else { continue };
        if response.result.is_ok() {
            let known = acknowledged.iter().filter(|write| write.at <= *began).map(|write| write.revision).max();
            assert!(response.revision >= known.unwrap_or(1), "a read at {began} shows {}", response.revision);
        }
    }
}

#[test]
fn acknowledged_writes_survive_crashes_and_partitions() {
    let three: usize = (0..40).map(|seed| history(seed, 3)).sum();
    let five: usize = (40..60).map(|seed| history(seed, 5)).sum();
    let acknowledged = three + five;
    assert!(acknowledged > 1500, "most of the time the cluster works: {acknowledged}");
}

#[test]
fn the_same_seed_gives_the_same_history() {
    let run = |seed| {
        let mut world = World::ready(3, seed);
        for number in 0..50 {
            world.put(member(number % 3 + 1), &number.to_string(), 1);
            world.run_for(ms(7));
            if number == 20 {
                world.crash(world.leader().expect("ready"));
            }
        }
        world.run_for(ms(9000));
        let answers = world.answers.iter().map(|(id, (at, response))| (*id, *at, response.revision));
        (world.handled, answers.collect::<Vec<_>>())
    };
    assert_eq!(run(5), run(5));
    assert_ne!(run(5), run(6));
}

/// From the crash of the leader to the first acknowledged write, with writes to both survivors every ten milliseconds.
fn takeover(seed: u64) -> u64 {
    let mut world = World::ready(3, seed);
    let mut chance = Seed(seed).stream("faults", "takeover");
    world.run_for(SimDuration::from_micros(chance.below(1_000_000)));
    let leader = world.leader().expect("ready");
    let survivors = world.followers();
    world.crash(leader);
    let crashed = world.now;
    let mut puts = Vec::new();
    loop {
        for &survivor in &survivors {
            puts.push(world.put(survivor, "a", 1));
        }
        world.run_for(ms(10));
        let acknowledged = |id: &u64| {
            let (at, response) = world.answers.get(id)?;
            response.result.is_ok().then(|| at.since(crashed).as_millis())
        };
        if let Some(first) = puts.iter().filter_map(acknowledged).min() {
            return first;
        }
        assert!(world.now.since(crashed) < SimDuration::from_secs(10), "no leader within ten seconds");
    }
}

/// The model of the measured figures: two survivors, timeouts uniform in 10 to 19 ticks of 100 ms with random phases, the
/// last heartbeat up to 100 ms ago, 3 ms for the election, and half a poll of ten milliseconds.
///
/// With `sticky` it knows one thing more: a survivor that has not counted ten ticks itself does not vote, as it may still
/// hear from the leader. Then the first one campaigns in vain, and the second one wins when its own time comes.
fn modelled(chance: &mut Stream, sticky: bool) -> u64 {
    let heartbeat = chance.below(100_000);
    let mut survivor = || (chance.below(100_000), chance.between(10, 19));
    let end = |(phase, ticks): (u64, u64)| phase + (ticks - 1) * 100_000;
    let (one, other) = (survivor(), survivor());
    let (first, second) = if end(one) <= end(other) { (one, other) } else { (other, one) };
    let refused = sticky && end(first) < end((second.0, 10));
    let won = if refused { end(second) } else { end(first) };
    ((won + 3_000).saturating_sub(heartbeat) + 5_000) / 1000
}

/// The greatest distance between the distributions of two sorted samples, and their percentiles 5, 50 and 95.
fn distance(seen: &[u64], model: &[u64]) -> (f64, [(u64, u64); 3]) {
    let below = |sorted: &[u64], limit: u64| sorted.partition_point(|&time| time <= limit) as f64 / sorted.len() as f64;
    let apart = seen.iter().map(|&time| (below(seen, time) - below(model, time)).abs()).fold(0.0, f64::max);
    let at = |sorted: &[u64], percent: usize| sorted[sorted.len() * percent / 100];
    (apart, [5, 50, 95].map(|percent| (at(seen, percent), at(model, percent))))
}

#[test]
fn the_time_from_a_leaders_crash_to_the_next_write_is_distributed_as_measured() {
    let mut seen: Vec<u64> = (0..300).map(|seed| takeover(1000 + seed)).collect();
    let mut chance = Seed(1).stream("model", "takeover");
    let mut model = |sticky| {
        let mut times: Vec<u64> = (0..20_000).map(|_| modelled(&mut chance, sticky)).collect();
        times.sort_unstable();
        times
    };
    let (plain, sticky) = (model(false), model(true));
    let mut hundred = seen[..100].to_vec();
    hundred.sort_unstable();
    seen.sort_unstable();
    // The 1 % limits of the Kolmogorov-Smirnov test: 1.63 over the root of the number of samples.
    let (apart, percentiles) = distance(&hundred, &plain);
    assert!(apart < 0.163, "{apart:.3} from the model, percentiles (seen, model): {percentiles:?}");
    let (apart, percentiles) = distance(&seen, &sticky);
    assert!(apart < 0.094, "{apart:.3} from the model with stickiness, percentiles (seen, model): {percentiles:?}");
}
