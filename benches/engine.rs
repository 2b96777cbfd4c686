//! The whole engine with trivial handlers: a hundred thousand entities, each with one pending event, digest on; and
//! the path of a message through a healthy network.

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use kubesim::engine::distribution::Distribution;
use kubesim::engine::driver::{Simulation, World};
use kubesim::engine::network::{Arrival, Delivery, LinkProfile, Network, NetworkOptions};
use kubesim::engine::process::ProcessId;
use kubesim::engine::queue::EventQueue;
use kubesim::engine::random::{Ratio, Seed, Stream};
use kubesim::engine::time::{SimDuration, SimTime};
use std::hint::black_box;

const ENTITIES: u32 = 100_000;

/// Something that happens to an entity.
enum Event {
    Tick { entity: u32, count: u64 },
    Rest { entity: u32, rounds: u32 },
}

/// Entities that count how often something happened to them.
struct Counters {
    counts: Vec<u64>,
    delays: Stream,
}

impl World for Counters {
    type Event = Event;

    fn handle(&mut self, at: SimTime, _sequence: u64, event: Event, queue: &mut EventQueue<Event>) {
        let delay = SimDuration::from_nanos(self.delays.bits() >> 34);
        let next = match event {
            Event::Tick { entity, count } => {
                self.counts[entity as usize] += 1;
                if count % 8 == 7 {
                    Event::Rest { entity, rounds: 2 }
                } else {
                    Event::Tick { entity, count: count + 1 }
                }
            }
            Event::Rest { entity, rounds: 0 } => Event::Tick { entity, count: 0 },
            Event::Rest { entity, rounds } => Event::Rest { entity, rounds: rounds - 1 },
        };
        queue.schedule(at + delay, next);
    }

    fn digest(event: &Event) -> [u64; 2] {
        match event {
            Event::Tick { entity, count } => [1 << 32 | u64::from(*entity), *count],
            Event::Rest { entity, rounds } => [2 << 32 | u64::from(*entity), u64::from(*rounds)],
        }
    }
}

fn engine(criterion: &mut Criterion) {
    let mut delays = Seed(7).stream("engine", "bench");
    let mut queue = EventQueue::new();
    for entity in 0..ENTITIES {
        queue.schedule(SimTime::from_nanos(delays.bits() >> 34), Event::Tick { entity, count: 0 });
    }
    let mut simulation = Simulation::new(Counters { counts: vec![0; ENTITIES as usize], delays }, queue);
    // As many nanoseconds as it takes for about a hundred thousand events: delays average 2^29.
    let slice = SimDuration::from_nanos(1 << 29);
    let before = simulation.events();
    simulation.run_until(simulation.now() + slice);
    let events = simulation.events() - before;
    let mut group = criterion.benchmark_group("engine");
    group.throughput(Throughput::Elements(events)).sample_size(30);
    group.bench_function("trivial handlers, 100000 entities", |bencher| {
        bencher.iter(|| simulation.run_until(simulation.now() + slice));
    });
    group.finish();
}

fn network(criterion: &mut Criterion) {
    const CLIENTS: u32 = 3_000;
    let mut group = criterion.benchmark_group("network");
    group.throughput(Throughput::Elements(u64::from(CLIENTS))).sample_size(30);
    let default = NetworkOptions::default();
    let constant = LinkProfile {
        latency: Distribution::Constant(SimDuration::from_micros(100)),
        bytes_per_second: 1_250_000_000,
        loss: Ratio::NEVER,
        duplication: Ratio::NEVER,
    };
    let cases = [("constant latency", constant), ("log-normal latency", default.remote.clone())];
    for (name, remote) in cases {
        let mut network = Network::new(Seed(7), NetworkOptions { remote, ..default.clone() });
        for client in 0..=CLIENTS {
            let machine = network.add_machine();
            network.add_process(&format!("p{client}"), machine);
        }
        let mut now = SimTime::ZERO;
        group.bench_function(format!("send and arrive, 3000 clients of one server, {name}"), |bencher| {
            bencher.iter(|| {
                now += SimDuration::from_millis(10);
                for client in 1..=CLIENTS {
                    let delivery = network.send(now, ProcessId(client), ProcessId(0), 0, 500, SimDuration::ZERO);
                    let Delivery::At { time, ticket } = black_box(delivery) else { panic!("the network is healthy") };
                    assert_eq!(network.arrive(time, ticket), Arrival::Deliver);
                }
            });
        });
    }
    group.finish();
}

criterion_group!(benches, engine, network);
criterion_main!(benches);
