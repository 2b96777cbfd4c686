//! Stories of messages and faults, and the promises that hold in all of them.

use super::*;
use crate::engine::queue::EventQueue;
use proptest::prelude::*;
use std::collections::BTreeMap;

/// What happens to the processes of a test.
#[derive(Clone, Copy, Debug)]
enum Happening {
    Arrive(Ticket),
    Learn(Loss),
    Check,
}

/// A message that some process sent.
#[derive(Clone, Copy, Debug)]
struct Sent {
    from: ProcessId,
    to: ProcessId,
    lane: Lane,
    at: SimTime,
    epoch: u32,
}

/// A network and the caller that it needs.
struct Harness {
    network: Network,
    queue: EventQueue<Happening>,
    sent: Vec<Sent>,
    under_way: BTreeMap<Ticket, usize>,
    delivered: Vec<(usize, SimTime)>,
    /// The incarnation of the receiver of each message delivered.
    receivers: Vec<u32>,
    learnt: Vec<Loss>,
    processes: Vec<ProcessId>,
}

const MS: SimDuration = SimDuration::from_millis(1);

fn at_ms(ms: u64) -> SimTime {
    SimTime::ZERO + MS * ms
}

/// Links that take exactly a millisecond.
fn exact() -> NetworkOptions {
    let link = LinkProfile {
        latency: Distribution::Constant(MS),
        bytes_per_second: 0,
        loss: Ratio::NEVER,
        duplication: Ratio::NEVER,
    };
    NetworkOptions { remote: link.clone(), local: link, ..NetworkOptions::default() }
}

impl Harness {
    /// As many machines as said, with one process each.
    fn new(machines: usize, options: NetworkOptions) -> Self {
        let mut network = Network::new(Seed(7), options);
        let processes = (0..machines).map(|number| {
            let machine = network.add_machine();
            network.add_process(&format!("p{number}"), machine)
        });
        let processes = processes.collect();
        let (sent, under_way, delivered, receivers, learnt) = Default::default();
        Harness { network, queue: EventQueue::new(), sent, under_way, delivered, receivers, learnt, processes }
    }

    fn machine(&self, process: usize) -> MachineId {
        self.network.machine(self.processes[process])
    }

    fn send(&mut self, from: usize, to: usize, lane: Lane) -> usize {
        self.send_bytes(from, to, lane, 100)
    }

    fn send_bytes(&mut self, from: usize, to: usize, lane: Lane, bytes: u64) -> usize {
        let (from, to, at) = (self.processes[from], self.processes[to], self.queue.now());
        let message = self.sent.len();
        self.sent.push(Sent { from, to, lane, at, epoch: self.network.epoch(from) });
        match self.network.send(at, from, to, lane, bytes, SimDuration::ZERO) {
            Delivery::At { time, ticket } => {
                self.under_way.insert(ticket, message);
                self.queue.schedule(time, Happening::Arrive(ticket));
            }
            Delivery::Held { ticket } => assert_eq!(self.under_way.insert(ticket, message), None),
            Delivery::Dropped => {}
        }
        self.follow_notices();
        message
    }

    /// Does something to the network.
    fn fault<R>(&mut self, act: impl FnOnce(&mut Network, SimTime) -> R) -> R {
        let result = act(&mut self.network, self.queue.now());
        self.follow_notices();
        result
    }

    fn follow_notices(&mut self) {
        for notice in self.network.take_notices() {
            match notice {
                Notice::Deliver { ticket, at } => {
                    assert!(self.under_way.contains_key(&ticket));
                    self.queue.schedule(at, Happening::Arrive(ticket));
                }
                Notice::Discard { ticket } => assert!(self.under_way.remove(&ticket).is_some()),
                Notice::Lost(loss) => drop(self.queue.schedule(loss.at, Happening::Learn(loss))),
                Notice::CheckAt(time) => drop(self.queue.schedule(time, Happening::Check)),
            }
        }
    }

    fn run_until(&mut self, limit: SimTime) {
        while let Some((now, _, happening)) = self.queue.pop_until(limit) {
            match happening {
                Happening::Arrive(ticket) => self.arrive(now, ticket),
                Happening::Learn(loss) if self.network.learns(&loss) => self.learnt.push(loss),
                Happening::Learn(_) => {}
                Happening::Check => self.network.expire(now),
            }
            self.follow_notices();
        }
        self.queue.advance_to(limit);
    }

    fn arrive(&mut self, now: SimTime, ticket: Ticket) {
        match self.network.arrive(now, ticket) {
            Arrival::Deliver => {
                let message = self.under_way.remove(&ticket).expect("a message arrives once");
                let sent = self.sent[message];
                assert_eq!(self.network.ends(ticket), (sent.from, sent.to));
                assert!(self.network.is_alive(sent.to), "a dead process gets nothing");
                self.delivered.push((message, now));
                self.receivers.push(self.network.epoch(sent.to));
            }
            Arrival::Later(time) => drop(self.queue.schedule(time, Happening::Arrive(ticket))),
            Arrival::Held => {}
            Arrival::Lost => drop(self.under_way.remove(&ticket)),
        }
    }

    /// Which messages arrived, and in which millisecond.
    fn arrivals(&self) -> Vec<(usize, u64)> {
        self.delivered.iter().map(|&(message, at)| (message, at.as_millis())).collect()
    }

    /// Who learnt of the loss of whom, and in which millisecond.
    fn losses(&self) -> Vec<(u32, u32, u64)> {
        self.learnt.iter().map(|loss| (loss.process.0, loss.peer.0, loss.at.as_millis())).collect()
    }
}

#[test]
fn a_message_takes_latency_plus_its_length_behind_earlier_ones() {
    let mut options = exact();
    options.remote.bytes_per_second = 1_000_000;
    let mut story = Harness::new(3, options);
    story.send_bytes(0, 1, 0, 10_000);
    story.send_bytes(0, 1, 1, 10_000);
    story.send_bytes(0, 2, 0, 1_000);
    story.run_until(at_ms(1000));
    assert_eq!(story.arrivals(), [(2, 2), (0, 11), (1, 21)], "each pair of machines has its own link");
}

#[test]
fn lanes_overtake_one_another_but_no_lane_overtakes_itself() {
    let mut options = exact();
    options.remote.latency = Distribution::Uniform { low: MS, high: MS * 50 };
    let mut story = Harness::new(2, options);
    for number in 0..200u8 {
        story.send(0, 1, number % 2);
    }
    story.run_until(at_ms(1000));
    let order: Vec<usize> = story.arrivals().into_iter().map(|arrival| arrival.0).collect();
    for lane in 0..2 {
        assert!(order.iter().filter(|&&message| message % 2 == lane).is_sorted());
    }
    assert!(!order.is_sorted(), "some message of one lane overtakes one of the other");
}

#[test]
fn a_short_partition_delays_and_loses_nothing() {
    let mut story = Harness::new(2, exact());
    story.send(0, 1, 0);
    story.run_until(at_ms(10));
    let sides = [story.machine(0), story.machine(1)];
    let cut = story.fault(|network, now| network.partition(now, [sides[0]], [sides[1]], Directions::Both));
    story.send(0, 1, 0);
    story.run_until(at_ms(500));
    story.send(0, 1, 0);
    story.fault(|network, now| network.heal(now, cut));
    story.send(0, 1, 0);
    story.run_until(at_ms(100_000));
    // Attempts 200 ms and 600 ms after the first: the second one gets through, and everything later queues behind it.
    assert_eq!(story.arrivals(), [(0, 1), (1, 611), (2, 611), (3, 611)]);
    assert_eq!(story.losses(), []);
}

#[test]
fn what_is_under_way_when_a_partition_begins_arrives_before_what_is_sent_later() {
    let mut story = Harness::new(2, exact());
    story.send(0, 1, 0);
    story.run_until(at_ms(10));
    story.send(0, 1, 0);
    let sides = [story.machine(0), story.machine(1)];
    let cut = story.fault(|network, now| network.partition(now, [sides[0]], [sides[1]], Directions::FirstToSecond));
    story.send(0, 1, 0);
    story.run_until(at_ms(20));
    story.fault(|network, now| network.heal(now, cut));
    story.send(0, 1, 0);
    story.run_until(at_ms(100_000));
    assert_eq!(story.arrivals(), [(0, 1), (1, 211), (2, 211), (3, 211)]);
}

#[test]
fn a_one_way_partition_lets_the_other_way_through_until_the_connection_is_given_up() {
    let mut story = Harness::new(2, exact());
    story.send(0, 1, 0);
    story.run_until(at_ms(10));
    let sides = [story.machine(0), story.machine(1)];
    story.fault(|network, now| network.partition(now, [sides[0]], [sides[1]], Directions::FirstToSecond));
    story.send(0, 1, 0);
    story.send(1, 0, 0);
    story.run_until(at_ms(45_010));
    assert_eq!(story.arrivals(), [(0, 1), (2, 11)]);
    assert_eq!(story.losses(), [(0, 1, 45_010), (1, 0, 45_010)]);
    assert!(story.under_way.is_empty(), "what was held is discarded");
    story.send(1, 0, 0);
    story.run_until(at_ms(50_000));
    assert_eq!(story.arrivals().len(), 2, "a new connection needs both ways");
    story.run_until(at_ms(200_000));
    assert_eq!(story.losses()[2..], [(0, 1, 90_010), (1, 0, 90_010)]);
}

#[test]
fn peers_of_a_crashed_process_learn_it_after_one_hop_and_again_when_they_try() {
    let mut story = Harness::new(3, exact());
    story.send(0, 1, 0);
    story.run_until(at_ms(10));
    let victim = story.processes[1];
    story.send(0, 1, 0);
    story.fault(|network, now| network.crash(now, victim));
    story.send(0, 1, 0);
    story.run_until(at_ms(20));
    assert_eq!(story.losses(), [(0, 1, 11)], "process 2 never spoke to it");
    story.send(0, 1, 0);
    story.run_until(at_ms(30));
    assert_eq!(story.losses()[1..], [(0, 1, 22)], "refused: one hop there, one back");
    story.fault(|network, now| network.restart(now, victim));
    story.send(0, 1, 0);
    story.run_until(at_ms(40));
    assert_eq!(story.arrivals(), [(0, 1), (4, 31)]);
    assert_eq!(story.network.epoch(victim), 1);
}

#[test]
fn a_machine_without_power_is_silent_until_the_keepalive_timeout() {
    let mut story = Harness::new(2, exact());
    story.send(0, 1, 0);
    story.run_until(at_ms(10));
    let machine = story.machine(1);
    story.fault(|network, now| network.machine_down(now, machine));
    story.send(0, 1, 0);
    story.run_until(at_ms(60_000));
    assert_eq!(story.arrivals(), [(0, 1)]);
    assert_eq!(story.losses(), [(0, 1, 45_010)]);
}

#[test]
fn a_machine_that_comes_back_tells_its_peers_that_their_connections_are_gone() {
    let mut story = Harness::new(2, exact());
    story.send(0, 1, 0);
    story.run_until(at_ms(10));
    let (machine, victim) = (story.machine(1), story.processes[1]);
    story.fault(|network, now| network.machine_down(now, machine));
    story.run_until(at_ms(1000));
    story.fault(|network, now| network.machine_up(now, machine));
    story.run_until(at_ms(2000));
    assert_eq!(story.losses(), [], "an idle connection does not notice before its next packet");
    story.fault(|network, now| network.restart(now, victim));
    story.send(1, 0, 0);
    story.run_until(at_ms(100_000));
    assert_eq!(story.losses(), [(0, 1, 2001)]);
    assert_eq!(story.arrivals(), [(0, 1), (1, 2001)]);
}

#[test]
fn loss_on_a_connection_shows_as_the_delay_of_a_retransmission() {
    let mut options = exact();
    options.remote.loss = Ratio::new(1, 10).unwrap();
    let mut story = Harness::new(2, options);
    for number in 0..1000 {
        story.run_until(at_ms(number * 100_000));
        story.send(0, 1, 0);
    }
    story.run_until(at_ms(1_000_000_000));
    let delays = story.arrivals().into_iter().map(|(message, at)| at - message as u64 * 100_000);
    let count = |wanted: u64| delays.clone().filter(|&delay| delay == wanted).count();
    let counts = [count(1), count(201), count(601), count(1401)];
    assert_eq!(story.delivered.len(), 1000);
    assert!(counts[0].abs_diff(900) < 50 && counts[1].abs_diff(90) < 50, "{counts:?}");
    assert!(counts.iter().sum::<usize>() > 990, "{counts:?}");
}

#[test]
fn a_link_that_loses_everything_breaks_its_connections() {
    let mut options = exact();
    options.remote.loss = Ratio::ALWAYS;
    let mut story = Harness::new(2, options);
    story.send(0, 1, 0);
    story.run_until(at_ms(100_000));
    assert_eq!((story.arrivals(), story.losses()), (vec![], vec![(0, 1, 45_000), (1, 0, 45_000)]));
}

#[test]
fn datagrams_get_lost_and_doubled() {
    let mut options = exact();
    (options.remote.loss, options.remote.duplication) = (Ratio::new(1, 4).unwrap(), Ratio::new(1, 5).unwrap());
    let mut network = Harness::new(2, options).network;
    let mut copies = [0; 3];
    for _ in 0..2000 {
        let arrivals = network.send_datagram(SimTime::ZERO, ProcessId(0), ProcessId(1), 100, SimDuration::ZERO);
        copies[arrivals.iter().flatten().count()] += 1;
    }
    assert!(
        [500, 1200, 300].iter().zip(copies).all(|(wanted, got): (&u32, u32)| wanted.abs_diff(got) < 100),
        "{copies:?}"
    );
}

#[test]
fn a_fault_elsewhere_changes_no_delay() {
    let run = |faulty: bool| {
        let mut story = Harness::new(3, NetworkOptions::default());
        for step in 0..200 {
            story.run_until(at_ms(step * 10));
            story.send(0, 1, 0);
            story.send(0, 2, 0);
            let victim = story.processes[2];
            match step {
                50 if faulty => story.fault(|network, now| network.crash(now, victim)),
                90 if faulty => story.fault(|network, now| network.restart(now, victim)),
                _ => {}
            }
        }
        story.run_until(at_ms(10_000));
        story.delivered.retain(|&(message, _)| story.sent[message].to == story.processes[1] || message > 250);
        story.delivered
    };
    assert_eq!(run(false), run(true));
}

/// What a random story consists of.
#[derive(Clone, Copy, Debug)]
enum Act {
    Send { from: usize, to: usize, lane: Lane },
    Wait { us: u64 },
    Cut { first: usize, second: usize, both: bool },
    Heal { which: u32 },
    Crash { process: usize },
    Restart { process: usize },
    Down { machine: usize },
    Up { machine: usize },
}

const MACHINES: usize = 3;

fn act() -> impl Strategy<Value = Act> {
    let one = || 0..MACHINES;
    prop_oneof![
        12 => (one(), one(), 0u8..2).prop_map(|(from, to, lane)| Act::Send { from, to, lane }),
        6 => (0u64..400).prop_map(|us| Act::Wait { us }),
        1 => (0u64..60_000_000).prop_map(|us| Act::Wait { us }),
        2 => (one(), one(), any::<bool>()).prop_map(|(first, second, both)| Act::Cut { first, second, both }),
        2 => (0u32..8).prop_map(|which| Act::Heal { which }),
        1 => one().prop_map(|process| Act::Crash { process }),
        2 => one().prop_map(|process| Act::Restart { process }),
        1 => one().prop_map(|machine| Act::Down { machine }),
        2 => one().prop_map(|machine| Act::Up { machine }),
    ]
}

fn play(story: &mut Harness, act: Act) {
    match act {
        Act::Send { from, .. } if !story.network.is_alive(story.processes[from]) => {}
        Act::Send { from, to, lane } => {
            story.send(from, to, lane);
        }
        Act::Wait { us } => story.run_until(story.queue.now() + SimDuration::from_micros(us)),
        Act::Cut { first, second, both } => {
            let directions = if both { Directions::Both } else { Directions::FirstToSecond };
            let [first, second] = [first, second].map(|process| story.machine(process));
            story.fault(|network, now| network.partition(now, [first], [second], directions));
        }
        Act::Heal { which } => story.fault(|network, now| network.heal(now, PartitionId(which))),
        Act::Crash { process } => story.fault(|network, now| network.crash(now, ProcessId(process as u32))),
        Act::Restart { process } => story.fault(|network, now| network.restart(now, ProcessId(process as u32))),
        Act::Down { machine } => story.fault(|network, now| network.machine_down(now, MachineId(machine as u32))),
        Act::Up { machine } => story.fault(|network, now| network.machine_up(now, MachineId(machine as u32))),
    }
}

/// Everything works again, and enough time passes.
fn come_to_rest(story: &mut Harness) {
    for partition in 0..story.network.next_partition {
        story.fault(|network, now| network.heal(now, PartitionId(partition)));
    }
    for machine in 0..MACHINES {
        story.fault(|network, now| network.machine_up(now, MachineId(machine as u32)));
    }
    story.run_until(story.queue.now() + SimDuration::from_secs(1000));
}

proptest! {
    #![proptest_config(ProptestConfig { max_shrink_iters: 20_000, ..ProptestConfig::default() })]

    #[test]
    fn every_message_arrives_once_and_in_order_or_its_sender_learns_of_a_loss(
        acts in prop::collection::vec(act(), 1..150), lossy in prop::bool::weighted(0.2),
    ) {
        let mut options = NetworkOptions::default();
        if lossy {
            options.remote.loss = Ratio::new(1, 5).unwrap();
        }
        let mut story = Harness::new(MACHINES, options);
        acts.iter().for_each(|&act| play(&mut story, act));
        come_to_rest(&mut story);

        prop_assert!(story.under_way.is_empty() && story.queue.is_empty(), "something hangs: {:?}", story.under_way);
        let mut last: BTreeMap<(ProcessId, ProcessId, Lane), usize> = BTreeMap::new();
        for &(message, _) in &story.delivered {
            let Sent { from, to, lane, .. } = story.sent[message];
            let earlier = last.insert((from, to, lane), message);
            prop_assert!(earlier < Some(message), "{message} arrives after {earlier:?}");
        }
        let delivered: std::collections::BTreeSet<usize> = story.delivered.iter().map(|&(message, _)| message).collect();
        for (message, sent) in story.sent.iter().enumerate() {
            let died = story.network.epoch(sent.from) > sent.epoch || !story.network.is_alive(sent.from);
            let learnt = story.learnt.iter().any(|loss| (loss.process, loss.peer) == (sent.from, sent.to) && loss.at >= sent.at);
            prop_assert!(delivered.contains(&message) || died || learnt, "{message} vanishes: {sent:?}");
        }
    }

    #[test]
    fn nobody_hears_from_a_new_incarnation_before_learning_that_the_old_one_is_gone(
        acts in prop::collection::vec(act(), 1..150),
    ) {
        let mut story = Harness::new(MACHINES, NetworkOptions::default());
        acts.iter().for_each(|&act| play(&mut story, act));
        come_to_rest(&mut story);

        let delivered = story.delivered.iter().enumerate().map(|(number, &(_, at))| (at, 1, number));
        let learnt = story.learnt.iter().enumerate().map(|(number, loss)| (loss.at, 0, number));
        let mut history: Vec<_> = delivered.chain(learnt).collect();
        history.sort_unstable();
        let mut heard: BTreeMap<(ProcessId, ProcessId), (u32, u32)> = BTreeMap::new();
        for (at, kind, number) in history {
            if kind == 0 {
                heard.remove(&(story.learnt[number].process, story.learnt[number].peer));
                continue;
            }
            let message = story.delivered[number].0;
            let Sent { from, to, epoch, .. } = story.sent[message];
            let (receiver, before) = (story.receivers[number], heard.insert((to, from), (story.receivers[number], epoch)));
            prop_assert!(before.is_none_or(|before| before == (receiver, epoch) || before.0 != receiver), "message {message} at {at}");
        }
    }
}
