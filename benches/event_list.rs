//! The event list in the hold model (take the next event, schedule another one a random time later) at a constant number
//! of pending events, against the standard library's heap in the same run.

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use kubesim::engine::queue::EventQueue;
use kubesim::engine::time::{SimDuration, SimTime};
use std::cmp::Ordering;
use std::collections::BinaryHeap;
use std::hint::black_box;

/// An event as large as those of a cluster.
type Event = [u64; 4];

/// How many events one measurement takes and schedules.
const HOLDS: u64 = 100_000;

/// The cheapest pseudo-random delays that will do, so that the lists are measured and not the generator.
struct Delays(u64);

impl Delays {
    fn next(&mut self) -> SimDuration {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        SimDuration::from_nanos(self.0 >> 34)
    }
}

/// What one would write without an event list of one's own.
struct Entry {
    at: SimTime,
    sequence: u64,
    event: Event,
}

impl PartialEq for Entry {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Entry {}

impl PartialOrd for Entry {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Entry {
    fn cmp(&self, other: &Self) -> Ordering {
        (other.at, other.sequence).cmp(&(self.at, self.sequence))
    }
}

fn hold(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("hold");
    group.throughput(Throughput::Elements(HOLDS)).sample_size(30);
    for pending in [1_000u64, 100_000, 1_000_000] {
        group.bench_function(BenchmarkId::new("event list", pending), |bencher| {
            let (mut queue, mut delays) = (EventQueue::new(), Delays(88_172_645_463_325_252));
            for number in 0..pending {
                queue.schedule(SimTime::ZERO + delays.next(), [number; 4]);
            }
            bencher.iter(|| {
                for _ in 0..HOLDS {
                    let (at, _, event) = queue.pop_until(SimTime::MAX).expect("the number of events is constant");
                    queue.schedule(at + delays.next(), black_box(event));
                }
            });
        });
        group.bench_function(BenchmarkId::new("BinaryHeap", pending), |bencher| {
            let (mut heap, mut delays) = (BinaryHeap::new(), Delays(88_172_645_463_325_252));
            heap.extend((0..pending).map(|number| Entry {
                at: SimTime::ZERO + delays.next(),
                sequence: number,
                event: [number; 4],
            }));
            let mut sequence = pending;
            bencher.iter(|| {
                for _ in 0..HOLDS {
                    let Entry { at, event, .. } = heap.pop().expect("the number of events is constant");
                    heap.push(Entry { at: at + delays.next(), sequence, event: black_box(event) });
                    sequence += 1;
                }
            });
        });
    }
    group.finish();
}

/// A timer that is set anew again and again before it fires, as an election timer is by every heartbeat.
fn reset(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("reset");
    group.throughput(Throughput::Elements(HOLDS)).sample_size(30);
    group.bench_function("event list, 100000 timers", |bencher| {
        let (mut queue, mut delays) = (EventQueue::new(), Delays(88_172_645_463_325_252));
        let mut timers: Vec<_> =
            (0..100_000u64).map(|number| queue.schedule(SimTime::ZERO + delays.next(), [number; 4])).collect();
        bencher.iter(|| {
            for timer in &mut timers {
                let event = queue.cancel(*timer).expect("no timer fires here");
                *timer = queue.schedule(SimTime::ZERO + delays.next(), event);
            }
        });
    });
    group.finish();
}

criterion_group!(benches, hold, reset);
criterion_main!(benches);
