//! `causes.bin`: the events that led to what the other files tell of, and what caused each of them.
//!
//! A line that names the format, a line of JSON with the names of processes, machines and kinds of events, then the events
//! in the order of their numbers. An event is seven numbers of variable length (seven bits a byte, the lowest first): by
//! how much its number exceeds the last one's, by how much its number exceeds its cause's, its time against the last one's in
//! nanoseconds (sign in the lowest bit), process, kind, two operands. About a dozen bytes an event.

use std::io::{self, Read, Write};

use serde::{Deserialize, Serialize};

use crate::engine::process::{Cause, ProcessId};
use crate::engine::time::SimTime;
use crate::engine::trace::TraceEvent;

const FORMAT: &str = "kubesim causes 1";

/// What the numbers in the events mean.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Names {
    /// Processes by number.
    pub processes: Vec<String>,
    /// The machine of each process.
    pub machines: Vec<String>,
    /// Kinds of events by number.
    pub kinds: Vec<String>,
}

/// Events with their causes.
#[derive(Clone, Debug, Default)]
pub struct Causes {
    /// What the numbers mean.
    pub names: Names,
    /// In the order of their sequences.
    events: Vec<TraceEvent>,
}

impl Causes {
    /// These events.
    pub fn new(names: Names, mut events: Vec<TraceEvent>) -> Self {
        events.sort_unstable_by_key(|event| event.sequence);
        Causes { names, events }
    }

    /// How many events there are.
    pub fn len(&self) -> usize {
        self.events.len()
    }

    /// True if there are none.
    pub fn is_empty(&self) -> bool {
        self.events.is_empty()
    }

    /// An event; none if it is not among these.
    pub fn get(&self, event: Cause) -> Option<&TraceEvent> {
        let place = self.events.binary_search_by_key(&event.0, |event| event.sequence).ok()?;
        Some(&self.events[place])
    }

    /// An event, what caused it, what caused that, and so on, the latest first.
    pub fn chain(&self, event: Cause) -> impl Iterator<Item = &TraceEvent> {
        // A cause always has a smaller number than its effect: when written by us, and checked when read.
        std::iter::successors(self.get(event), |effect| self.get(effect.cause))
    }

    /// The name of an event's process.
    pub fn process(&self, event: &TraceEvent) -> &str {
        self.process_name(event.process.0 as usize)
    }

    /// The name of a process by number.
    pub fn process_name(&self, process: usize) -> &str {
        self.names.processes.get(process).map_or("?", String::as_str)
    }

    /// The machine of an event's process.
    pub fn machine(&self, event: &TraceEvent) -> &str {
        self.names.machines.get(event.process.0 as usize).map_or("?", String::as_str)
    }

    /// What an event is called.
    pub fn kind(&self, event: &TraceEvent) -> &str {
        self.names.kinds.get(usize::from(event.kind)).map_or("?", String::as_str)
    }

    /// Writes the file.
    pub fn write(&self, mut to: impl Write) -> io::Result<()> {
        writeln!(to, "{FORMAT}")?;
        serde_json::to_writer(&mut to, &self.names)?;
        writeln!(to)?;
        let (mut sequence, mut time) = (0, 0);
        let mut bytes = Vec::with_capacity(64);
        for event in &self.events {
            bytes.clear();
            let now = event.time.as_nanos();
            let numbers = [
                event.sequence - sequence,
                event.sequence - event.cause.0,
                if now >= time { (now - time) << 1 } else { (time - now) << 1 | 1 },
                u64::from(event.process.0),
                u64::from(event.kind),
                event.operands[0],
                event.operands[1],
            ];
            numbers.into_iter().for_each(|number| put(&mut bytes, number));
            to.write_all(&bytes)?;
            (sequence, time) = (event.sequence, now);
        }
        to.flush()
    }

    /// Reads the file. Errors say what is wrong with it.
    pub fn read(mut from: impl Read) -> io::Result<Self> {
        let mut bytes = Vec::new();
        from.read_to_end(&mut bytes)?;
        let Some(rest) = bytes.strip_prefix(FORMAT.as_bytes()).and_then(|rest| rest.strip_prefix(b"\n")) else {
            return Err(invalid("is not a causes file of this version of kubesim"));
        };
        let end = rest.iter().position(|byte| *byte == b'\n').ok_or_else(|| invalid("ends within its header"))?;
        let names: Names = serde_json::from_slice(&rest[..end])?;
        let (mut rest, mut events) = (&rest[end + 1..], Vec::new());
        let (mut sequence, mut time) = (0u64, 0u64);
        while !rest.is_empty() {
            let event = decode(&mut rest, sequence, time).ok_or_else(|| invalid("has an event that makes no sense"))?;
            (sequence, time) = (event.sequence, event.time.as_nanos());
            events.push(event);
        }
        Ok(Causes { names, events })
    }
}

fn invalid(message: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, message)
}

/// Takes one event off; none if the bytes are not what [`Causes::write`] writes.
fn decode(bytes: &mut &[u8], last_sequence: u64, last_time: u64) -> Option<TraceEvent> {
    let ahead = take(bytes)?;
    let sequence = last_sequence.checked_add(ahead)?;
    let distance = take(bytes)?;
    let elapsed = take(bytes)?;
    let time = match elapsed & 1 {
        0 => last_time.checked_add(elapsed >> 1)?,
        _ => last_time.checked_sub(elapsed >> 1)?,
    };
    let event = TraceEvent {
        sequence,
        cause: Cause(sequence.checked_sub(distance)?),
        time: SimTime::from_nanos(time),
        process: ProcessId(u32::try_from(take(bytes)?).ok()?),
        kind: u16::try_from(take(bytes)?).ok()?,
        operands: [take(bytes)?, take(bytes)?],
    };
    let is_first = last_sequence == 0 && last_time == 0;
    ((ahead > 0 || is_first) && (distance > 0 || sequence == 0)).then_some(event)
}

/// Appends a number, seven bits a byte, the lowest first.
pub(super) fn put(bytes: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        bytes.push(number as u8 | 0x80);
        number >>= 7;
    }
    bytes.push(number as u8);
}

fn take(bytes: &mut &[u8]) -> Option<u64> {
    let mut number = 0u64;
    for shift in (0..64).step_by(7) {
        let (byte, rest) = bytes.split_first()?;
        *bytes = rest;
        let bits = u64::from(byte & 0x7f);
        if bits << shift >> shift != bits {
            return None;
        }
        number |= bits << shift;
        if *byte < 0x80 {
            return Some(number);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn names() -> Names {
        Names { processes: vec!["etcd-0".into()], machines: vec!["etcd-0".into()], kinds: vec!["timer".into()] }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_again(
            given in prop::collection::vec((1..1000u64, any::<u64>(), 0..u64::MAX / 4, any::<u32>(), any::<u16>(), any::<[u64; 2]>()), 0..20),
        ) {
            let mut sequence = 0;
            let events: Vec<TraceEvent> = given.into_iter().map(|(step, cause, time, process, kind, operands)| {
                sequence += step;
                let (time, cause) = (SimTime::from_nanos(time), Cause(cause % sequence));
                TraceEvent { sequence, time, cause, process: ProcessId(process), kind, operands }
            }).collect();
            let mut bytes = Vec::new();
            Causes::new(names(), events.clone()).write(&mut bytes).unwrap();
            let read = Causes::read(&bytes[..]).unwrap();
            prop_assert_eq!(read.events, events);
            prop_assert_eq!(read.names, names());
        }

        #[test]
        fn nothing_that_is_read_makes_it_panic_or_run_in_circles(noise in prop::collection::vec(any::<u8>(), 0..200)) {
            let mut bytes = Vec::new();
            Causes::new(names(), Vec::new()).write(&mut bytes).unwrap();
            bytes.extend(noise);
            if let Ok(causes) = Causes::read(&bytes[..]) {
                for event in &causes.events {
                    prop_assert!(causes.chain(Cause(event.sequence)).count() <= causes.len());
                }
            }
        }
    }
}
