//! The loop: takes the next event from the list and hands it to the world, again and again.
//!
//! Two drivers share it. [`Simulation::run_until`] jumps from event to event. [`WallClockDriver`] lets each event wait
//! for its time and takes events from outside, for worlds that have real parts. Only the latter knows that there is a
//! wall clock, and it never touches the world in any other way than the former.

use super::digest::Digest;
use super::queue::EventQueue;
use super::time::{SimDuration, SimTime};
use std::sync::mpsc::{Receiver, RecvTimeoutError};

/// What the engine drives: everything that handles events.
pub trait World {
    /// Everything that can happen.
    type Event;

    /// Handles one event. What follows from it goes into the queue.
    fn handle(&mut self, at: SimTime, sequence: u64, event: Self::Event, queue: &mut EventQueue<Self::Event>);

    /// What of an event goes into the digest of the run, besides its time and sequence: its kind, its subject and, where
    /// that is cheap, its content. Must not contain anything that differs between builds or platforms, such as an address.
    fn digest(event: &Self::Event) -> [u64; 2];

    /// Whether the run is over although more could happen. Asked before every event, so it should only look at a field.
    fn is_over(&self) -> bool {
        false
    }
}

/// Why the loop came to a halt.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Halt {
    /// The next event lies beyond the limit.
    Limit,
    /// Nothing more is going to happen.
    Idle,
    /// The world said that the run is over.
    Over,
}

/// A world in virtual time.
#[derive(Debug)]
pub struct Simulation<W: World> {
    /// What happens to the events.
    pub world: W,
    /// What is going to happen.
    pub queue: EventQueue<W::Event>,
    digest: Digest,
    events: u64,
}

impl<W: World> Simulation<W> {
    /// A world at the beginning of time, with what is going to happen first.
    pub fn new(world: W, queue: EventQueue<W::Event>) -> Self {
        Simulation { world, queue, digest: Digest::default(), events: 0 }
    }

    /// Handles all events up to and including those at `limit`, jumping from one to the next. Afterwards the present is
    /// `limit`, unless the run was over before or `limit` is the end of time.
    pub fn run_until(&mut self, limit: SimTime) -> Halt {
        while !self.world.is_over() {
            let Some((at, sequence, event)) = self.queue.pop_until(limit) else {
                if limit != SimTime::MAX {
                    self.queue.advance_to(limit);
                }
                return if self.queue.is_empty() { Halt::Idle } else { Halt::Limit };
            };
            self.happen(at, sequence, event);
        }
        Halt::Over
    }

    /// Handles the events of the next moment at which something happens, and returns this moment; none if nothing happens up to and
    /// including `limit` or the run is over.
    pub fn step_until(&mut self, limit: SimTime) -> Option<SimTime> {
        let (mut moment, mut last) = (None, limit);
        while !self.world.is_over()
            && let Some((at, sequence, event)) = self.queue.pop_until(last)
        {
            self.happen(at, sequence, event);
            (moment, last) = (Some(at), at);
        }
        moment
    }

    /// Handles one event.
    #[inline]
    fn happen(&mut self, at: SimTime, sequence: u64, event: W::Event) {
        let [what, detail] = W::digest(&event);
        self.digest.fold([at.as_nanos(), sequence, what, detail]);
        self.events += 1;
        self.world.handle(at, sequence, event, &mut self.queue);
    }

    /// The present.
    pub fn now(&self) -> SimTime {
        self.queue.now()
    }

    /// The digest of all events handled so far.
    pub fn digest(&self) -> Digest {
        self.digest
    }

    /// How many events were handled so far.
    pub fn events(&self) -> u64 {
        self.events
    }
}

/// What a wall-clock driver asks for the time, and what it waits with.
pub trait Clock {
    /// How long the run has lasted. Never less than before.
    fn now(&mut self) -> SimTime;

    /// Waits until `time`, or until something arrives from outside, whichever comes first.
    fn wait<E>(&mut self, time: SimTime, outside: &Receiver<E>) -> Wakeup<E>;
}

/// Why a wait ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Wakeup<E> {
    /// Something happened outside.
    Outside(E),
    /// The time has come.
    Due,
    /// Nothing can come from outside any more: all senders are gone. No time has passed.
    Closed,
}

/// Drives a world in step with a clock and takes events from outside. An outside event gets the present time.
#[derive(Debug)]
pub struct WallClockDriver<W: World, C> {
    /// The world, its events and its digest.
    pub simulation: Simulation<W>,
    clock: C,
    outside: Receiver<W::Event>,
    open: bool,
}

impl<W: World, C: Clock> WallClockDriver<W, C> {
    /// A driver for a world. Other threads send events through the channel.
    pub fn new(simulation: Simulation<W>, clock: C, outside: Receiver<W::Event>) -> Self {
        WallClockDriver { simulation, clock, outside, open: true }
    }

    /// Handles events when their time has come, until `limit`, or until nothing more can happen inside or outside.
    pub fn run_until(&mut self, limit: SimTime) -> Halt {
        loop {
            let now = self.clock.now().min(limit);
            match self.simulation.run_until(now) {
                Halt::Over => return Halt::Over,
                Halt::Idle if !self.open => return Halt::Idle,
                _ if now == limit => return Halt::Limit,
                _ => {}
            }
            let next = self.simulation.queue.peek_time().unwrap_or(limit).min(limit);
            match self.wait(next) {
                Wakeup::Outside(event) => self.admit(event, limit),
                Wakeup::Closed => self.open = false,
                Wakeup::Due => {}
            }
        }
    }

    fn wait(&mut self, next: SimTime) -> Wakeup<W::Event> {
        if self.open {
            return self.clock.wait(next, &self.outside);
        }
        // Without an outside, a channel on which nothing ever comes stands in for it.
        let (_sender, silence) = std::sync::mpsc::channel();
        self.clock.wait(next, &silence)
    }

    /// Puts an event from outside behind everything that is due before it.
    fn admit(&mut self, event: W::Event, limit: SimTime) {
        let now = self.clock.now().min(limit).max(self.simulation.now());
        if self.simulation.run_until(now) != Halt::Over {
            self.simulation.queue.schedule(now, event);
        }
    }
}

/// The clock on the wall: virtual time passes as fast as real time, counted from the creation of this clock.
#[derive(Debug)]
#[expect(clippy::disallowed_types, reason = "the one place where virtual time follows the wall clock")]
pub struct WallClock {
    begin: std::time::Instant,
}

#[expect(clippy::disallowed_types, reason = "the one place where virtual time follows the wall clock")]
impl WallClock {
    /// A clock that begins at zero now.
    pub fn start() -> Self {
        WallClock { begin: std::time::Instant::now() }
    }
}

impl Clock for WallClock {
    fn now(&mut self) -> SimTime {
        SimTime::from_nanos(u64::try_from(self.begin.elapsed().as_nanos()).unwrap_or(u64::MAX))
    }

    fn wait<E>(&mut self, time: SimTime, outside: &Receiver<E>) -> Wakeup<E> {
        let remaining: SimDuration = time.since(self.now());
        match outside.recv_timeout(std::time::Duration::from_nanos(remaining.as_nanos())) {
            Ok(event) => Wakeup::Outside(event),
            Err(RecvTimeoutError::Timeout) => Wakeup::Due,
            Err(RecvTimeoutError::Disconnected) => Wakeup::Closed,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc::{TryRecvError, channel};

    /// Writes down what happens. An event above ten schedules one of half its number that many nanoseconds later.
    #[derive(Default)]
    struct Diary {
        entries: Vec<(u64, u64)>,
        last: u64,
    }

    impl World for Diary {
        type Event = u64;

        fn handle(&mut self, at: SimTime, _sequence: u64, event: u64, queue: &mut EventQueue<u64>) {
            self.entries.push((at.as_nanos(), event));
            self.last = event;
            if event > 10 {
                queue.schedule(at + SimDuration::from_nanos(event / 2), event / 2);
            }
        }

        fn digest(event: &u64) -> [u64; 2] {
            [*event, 0]
        }

        fn is_over(&self) -> bool {
            self.last == 1
        }
    }

    fn simulation(events: &[(u64, u64)]) -> Simulation<Diary> {
        let mut queue = EventQueue::new();
        for &(at, event) in events {
            queue.schedule(SimTime::from_nanos(at), event);
        }
        Simulation::new(Diary::default(), queue)
    }

    /// A clock that jumps to the time waited for, or three nanoseconds ahead for something from outside.
    #[derive(Default)]
    struct TestClock {
        now: u64,
    }

    impl Clock for TestClock {
        fn now(&mut self) -> SimTime {
            SimTime::from_nanos(self.now)
        }

        fn wait<E>(&mut self, time: SimTime, outside: &Receiver<E>) -> Wakeup<E> {
            match outside.try_recv() {
                Ok(event) => {
                    self.now += 3;
                    Wakeup::Outside(event)
                }
                Err(TryRecvError::Empty) => {
                    self.now = self.now.max(time.as_nanos());
                    Wakeup::Due
                }
                Err(TryRecvError::Disconnected) => Wakeup::Closed,
            }
        }
    }

    #[test]
    fn the_loop_handles_events_in_order_up_to_the_limit() {
        let mut run = simulation(&[(5, 40), (7, 2)]);
        assert_eq!(run.run_until(SimTime::from_nanos(25)), Halt::Limit);
        assert_eq!(run.world.entries, [(5, 40), (7, 2), (25, 20)]);
        assert_eq!((run.now().as_nanos(), run.events()), (25, 3));
        assert_eq!(run.step_until(SimTime::from_nanos(34)), None);
        assert_eq!(run.step_until(SimTime::MAX), Some(SimTime::from_nanos(35)));
        assert_eq!(run.run_until(SimTime::from_nanos(99)), Halt::Idle);
        assert_eq!((run.now().as_nanos(), run.step_until(SimTime::MAX)), (99, None));
    }

    #[test]
    fn the_world_can_end_the_run() {
        let mut run = simulation(&[(5, 1), (5, 2)]);
        assert_eq!(run.run_until(SimTime::MAX), Halt::Over);
        assert_eq!((run.world.entries.len(), run.queue.len()), (1, 1));
    }

    #[test]
    fn where_a_run_pauses_does_not_change_its_digest() {
        let events = [(5, 400), (7, 2), (7, 90)];
        let mut whole = simulation(&events);
        whole.run_until(SimTime::MAX);
        let mut halting = simulation(&events);
        for at in 0..1000 {
            halting.run_until(SimTime::from_nanos(at));
        }
        assert_eq!((whole.digest(), whole.events()), (halting.digest(), halting.events()));
        let mut other = simulation(&[(5, 400), (7, 90), (7, 2)]);
        other.run_until(SimTime::MAX);
        assert_ne!(whole.digest(), other.digest());
    }

    #[test]
    fn without_an_outside_both_drivers_do_the_same() {
        let events = [(5, 400), (7, 2), (7, 90)];
        let mut jumping = simulation(&events);
        jumping.run_until(SimTime::MAX);
        let (sender, outside) = channel();
        drop(sender);
        let mut waiting = WallClockDriver::new(simulation(&events), TestClock::default(), outside);
        assert_eq!(waiting.run_until(SimTime::MAX), Halt::Idle);
        assert_eq!(waiting.simulation.world.entries, jumping.world.entries);
        assert_eq!(waiting.simulation.digest(), jumping.digest());
    }

    #[test]
    fn an_event_from_outside_happens_at_the_present_after_what_was_due() {
        let (sender, outside) = channel();
        sender.send(7).unwrap();
        sender.send(8).unwrap();
        drop(sender);
        let mut driver = WallClockDriver::new(simulation(&[(2, 4), (6, 5), (50, 6)]), TestClock::default(), outside);
        assert_eq!(driver.run_until(SimTime::from_nanos(60)), Halt::Idle);
        assert_eq!(driver.simulation.world.entries, [(2, 4), (3, 7), (6, 5), (6, 8), (50, 6)]);
    }

    #[test]
    fn the_wall_clock_driver_stops_at_its_limit_while_the_outside_is_open() {
        let (sender, outside) = channel();
        let mut driver = WallClockDriver::new(simulation(&[(2, 4), (90, 5)]), TestClock::default(), outside);
        assert_eq!(driver.run_until(SimTime::from_nanos(60)), Halt::Limit);
        sender.send(3).unwrap();
        assert_eq!(driver.run_until(SimTime::from_nanos(80)), Halt::Limit);
        assert_eq!(driver.simulation.world.entries, [(2, 4), (63, 3)]);
    }

    #[test]
    fn the_real_clock_moves_forward_and_waits_for_what_is_sent() {
        let mut clock = WallClock::start();
        let before = clock.now();
        let (sender, outside) = channel();
        sender.send('x').unwrap();
        assert_eq!(clock.wait(SimTime::MAX, &outside), Wakeup::Outside('x'));
        assert_eq!(clock.wait(before, &outside), Wakeup::Due);
        drop(sender);
        assert_eq!(clock.wait(SimTime::MAX, &outside), Wakeup::Closed);
        assert!(clock.now() >= before);
    }
}
