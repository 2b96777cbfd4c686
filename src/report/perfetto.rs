//! Traces for Perfetto: the few messages of its TrackEvent format that are needed, as protobuf written by hand.
//!
//! Field numbers are those of perfetto's `trace_packet.proto`, `track_descriptor.proto` and `track_event.proto`.

use std::io::{self, Write};

/// A track: a row on which slices and instants lie.
pub type Track = u64;

/// Writes a trace packet by packet.
pub struct PerfettoWriter<W: Write> {
    to: W,
    packet: Vec<u8>,
}

/// A remark on an event.
#[derive(Clone, Copy, Debug)]
pub enum Note<'a> {
    /// A number.
    Number(&'static str, u64),
    /// A text.
    Text(&'static str, &'a str),
}

/// What happens on a track.
#[derive(Clone, Copy, Debug)]
pub enum Mark<'a> {
    /// A slice begins.
    Begin(&'a str),
    /// The last slice that began ends.
    End,
    /// Something without length.
    Instant(&'a str),
    /// A counter has this value from now on.
    Count(i64),
}

/// All packets belong to one sequence; any number but zero will do.
const SEQUENCE: u64 = 1;

mod field {
    pub const TRACE_PACKET: u32 = 1;
    pub const PACKET_TIMESTAMP: u32 = 8;
    pub const PACKET_SEQUENCE: u32 = 10;
    pub const PACKET_EVENT: u32 = 11;
    pub const PACKET_TRACK: u32 = 60;
    pub const TRACK_UUID: u32 = 1;
    pub const TRACK_NAME: u32 = 2;
    pub const TRACK_PROCESS: u32 = 3;
    pub const TRACK_THREAD: u32 = 4;
    pub const TRACK_PARENT: u32 = 5;
    pub const TRACK_COUNTER: u32 = 8;
    pub const PROCESS_PID: u32 = 1;
    pub const PROCESS_NAME: u32 = 6;
    pub const THREAD_PID: u32 = 1;
    pub const THREAD_TID: u32 = 2;
    pub const THREAD_NAME: u32 = 5;
    pub const EVENT_NOTE: u32 = 4;
    pub const EVENT_TYPE: u32 = 9;
    pub const EVENT_TRACK: u32 = 11;
    pub const EVENT_NAME: u32 = 23;
    pub const EVENT_COUNTER: u32 = 30;
    pub const EVENT_FLOWS: u32 = 47;
    pub const EVENT_FLOW_ENDS: u32 = 48;
    pub const NOTE_NUMBER: u32 = 3;
    pub const NOTE_TEXT: u32 = 6;
    pub const NOTE_NAME: u32 = 10;
}

impl<W: Write> PerfettoWriter<W> {
    /// A trace without anything.
    pub fn new(to: W) -> Self {
        PerfettoWriter { to, packet: Vec::new() }
    }

    /// A track that groups others: a machine.
    pub fn machine(&mut self, track: Track, number: u64, name: &str) -> io::Result<()> {
        let mut process = Vec::new();
        integer(&mut process, field::PROCESS_PID, number);
        text(&mut process, field::PROCESS_NAME, name);
        let mut descriptor = Vec::new();
        integer(&mut descriptor, field::TRACK_UUID, track);
        bytes(&mut descriptor, field::TRACK_PROCESS, &process);
        self.descriptor(&descriptor)
    }

    /// The track of a component on a machine.
    pub fn component(&mut self, track: Track, machine: u64, number: u64, name: &str) -> io::Result<()> {
        let mut thread = Vec::new();
        integer(&mut thread, field::THREAD_PID, machine);
        integer(&mut thread, field::THREAD_TID, number);
        text(&mut thread, field::THREAD_NAME, name);
        let mut descriptor = Vec::new();
        integer(&mut descriptor, field::TRACK_UUID, track);
        bytes(&mut descriptor, field::TRACK_THREAD, &thread);
        self.descriptor(&descriptor)
    }

    /// Any other track, below another one.
    pub fn track(&mut self, track: Track, parent: Option<Track>, name: &str) -> io::Result<()> {
        let mut descriptor = Vec::new();
        integer(&mut descriptor, field::TRACK_UUID, track);
        text(&mut descriptor, field::TRACK_NAME, name);
        if let Some(parent) = parent {
            integer(&mut descriptor, field::TRACK_PARENT, parent);
        }
        self.descriptor(&descriptor)
    }

    /// A track that shows a number over time.
    pub fn counter(&mut self, track: Track, parent: Option<Track>, name: &str) -> io::Result<()> {
        let mut descriptor = Vec::new();
        integer(&mut descriptor, field::TRACK_UUID, track);
        text(&mut descriptor, field::TRACK_NAME, name);
        if let Some(parent) = parent {
            integer(&mut descriptor, field::TRACK_PARENT, parent);
        }
        bytes(&mut descriptor, field::TRACK_COUNTER, &[]);
        self.descriptor(&descriptor)
    }

    /// Something on a track at a time in nanoseconds.
    pub fn event(&mut self, track: Track, nanos: u64, mark: Mark<'_>, notes: &[Note<'_>]) -> io::Result<()> {
        self.event_with_flows(track, nanos, mark, notes, &[], &[])
    }

    /// The same, with arrows that leave it and arrows that end at it, by their numbers.
    pub fn event_with_flows(
        &mut self,
        track: Track,
        nanos: u64,
        mark: Mark<'_>,
        notes: &[Note<'_>],
        leaving: &[u64],
        ending: &[u64],
    ) -> io::Result<()> {
        let mut event = Vec::with_capacity(64);
        for note in notes {
            bytes(&mut event, field::EVENT_NOTE, &note.encode());
        }
        // TYPE_SLICE_BEGIN, TYPE_SLICE_END, TYPE_INSTANT, TYPE_COUNTER
        let (kind, name) = match mark {
            Mark::Begin(name) => (1, Some(name)),
            Mark::End => (2, None),
            Mark::Instant(name) => (3, Some(name)),
            Mark::Count(_) => (4, None),
        };
        integer(&mut event, field::EVENT_TYPE, kind);
        integer(&mut event, field::EVENT_TRACK, track);
        if let Some(name) = name {
            text(&mut event, field::EVENT_NAME, name);
        }
        if let Mark::Count(value) = mark {
            integer(&mut event, field::EVENT_COUNTER, value as u64);
        }
        leaving.iter().for_each(|flow| fixed(&mut event, field::EVENT_FLOWS, *flow));
        ending.iter().for_each(|flow| fixed(&mut event, field::EVENT_FLOW_ENDS, *flow));
        self.packet.clear();
        integer(&mut self.packet, field::PACKET_TIMESTAMP, nanos);
        bytes(&mut self.packet, field::PACKET_EVENT, &event);
        self.finish()
    }

    fn descriptor(&mut self, descriptor: &[u8]) -> io::Result<()> {
        self.packet.clear();
        bytes(&mut self.packet, field::PACKET_TRACK, descriptor);
        self.finish()
    }

    fn finish(&mut self) -> io::Result<()> {
        integer(&mut self.packet, field::PACKET_SEQUENCE, SEQUENCE);
        let mut head = Vec::with_capacity(12);
        varint(&mut head, u64::from(field::TRACE_PACKET) << 3 | 2);
        varint(&mut head, self.packet.len() as u64);
        self.to.write_all(&head)?;
        self.to.write_all(&self.packet)
    }

    /// Hands everything written to the file.
    pub fn flush(&mut self) -> io::Result<()> {
        self.to.flush()
    }
}

impl Note<'_> {
    fn encode(&self) -> Vec<u8> {
        let mut note = Vec::new();
        match self {
            Note::Number(name, value) => {
                integer(&mut note, field::NOTE_NUMBER, *value);
                text(&mut note, field::NOTE_NAME, name);
            }
            Note::Text(name, value) => {
                text(&mut note, field::NOTE_TEXT, value);
                text(&mut note, field::NOTE_NAME, name);
            }
        }
        note
    }
}

use super::causes::put as varint;

fn integer(to: &mut Vec<u8>, field: u32, value: u64) {
    varint(to, u64::from(field) << 3);
    varint(to, value);
}

fn fixed(to: &mut Vec<u8>, field: u32, value: u64) {
    varint(to, u64::from(field) << 3 | 1);
    to.extend(value.to_le_bytes());
}

fn bytes(to: &mut Vec<u8>, field: u32, value: &[u8]) {
    varint(to, u64::from(field) << 3 | 2);
    varint(to, value.len() as u64);
    to.extend(value);
}

fn text(to: &mut Vec<u8>, field: u32, value: &str) {
    bytes(to, field, value.as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packets_are_those_that_perfetto_reads() {
        let mut out = Vec::new();
        let mut trace = PerfettoWriter::new(&mut out);
        trace.machine(5, 1, "etcd-0").unwrap();
        trace.event_with_flows(5, 300, Mark::Begin("x"), &[Note::Number("n", 7)], &[9], &[]).unwrap();
        trace.event(5, 301, Mark::End, &[]).unwrap();
        let descriptor = [
            10, 19, // packet of 19 bytes
            0xe2, 3, 14, // track descriptor of 14 bytes
            8, 5, // uuid 5
            26, 10, 8, 1, 50, 6, b'e', b't', b'c', b'd', b'-', b'0', // process 1 called etcd-0
            80, 1, // sequence 1
        ];
        let begin = [
            10, 32, 64, 0xac, 2, // at 300
            90, 25, // event of 25 bytes
            34, 5, 24, 7, 82, 1, b'n', // note n = 7
            72, 1, 88, 5, // slice begin on track 5
            0xba, 1, 1, b'x', // name
            0xf9, 2, 9, 0, 0, 0, 0, 0, 0, 0, // flow 9
            80, 1,
        ];
        let end = [10, 11, 64, 0xad, 2, 90, 4, 72, 2, 88, 5, 80, 1];
        let expected: Vec<u8> = [&descriptor[..], &begin[..], &end[..]].concat();
        assert_eq!(out, expected);
    }
}
