//! The event recorder of the scheduler (client-go, `tools/events`): events with `eventTime`, `action` and, where the same
//! happens again, a series.
//!
//! The first event is written, the second makes it a series, more are only counted. A series is written again every half hour
//! and when six minutes have passed without another one. Writes do not wait for one another.

use std::collections::BTreeMap;
use std::rc::Rc;

use serde_json::json;

use super::delivery::{Caller, Failure};
use super::lately::Classes;
use super::recent::digest;
use super::recorder::{MAX_TRIES, PAUSE, event_name, event_namespace};
use super::tokens;
use super::transport::{Client, Clientset};
use crate::api::event::{Event, EventType, Involved, ObjectReference, Occurrence, Reporter};
use crate::api::kind::Kind;
use crate::api::meta::{Epoch, MicroTime, ObjectKey};
use crate::api::name::Name;
use crate::api::object::{Object, Resource};
use crate::apiserver::protocol::{Answer, ApiMessage, Operation, Part, Patch, RequestId, new_meta};
use crate::apiserver::status::Reason;
use crate::engine::hash::Map;
use crate::engine::process::Context;
use crate::engine::random::Stream;
use crate::engine::time::{SimDuration, SimTime};

/// How often series are looked through, and after how long without another event they end (`finishTime`).
const FINISH: SimDuration = SimDuration::from_secs(6 * 60);

/// Every which look also writes the series that go on (`refreshTime` is 30 minutes).
const LOOKS_PER_REFRESH: u64 = 5;

/// Something that happened to an object.
#[derive(Clone, Debug)]
pub struct SeriesNote {
    /// The object that it is about.
    pub regarding: ObjectReference,
    /// Another object that has to do with it.
    pub related: Option<ObjectReference>,
    /// Normal or Warning.
    pub kind: EventType,
    /// Why, in one word.
    pub reason: Name,
    /// What was done, in one word.
    pub action: Name,
    /// In a sentence.
    pub message: String,
}

/// Writes a component's events in the newer form.
pub struct SeriesRecorder {
    number: u16,
    clientset: Clientset,
    classes: Classes,
    epoch: Epoch,
    stream: Stream,
    /// The events of the last minutes, by the hash of what makes two the same.
    events: Map<u64, Known>,
    sequence: u64,
    writes: BTreeMap<RequestId, Write>,
    retries: BTreeMap<(SimTime, u64), Write>,
    last_stamp: SimTime,
    next_look: Option<SimTime>,
}

struct Known {
    /// In the order in which they were first seen.
    number: u64,
    event: Rc<Event>,
}

struct Write {
    /// Under which the event is known.
    key: u64,
    event: Rc<Event>,
    patching: bool,
    tries: u32,
}

impl SeriesRecorder {
    /// A recorder for a component, as `default-scheduler`, of a process on `host`. `number` tells the recorders of a process
    /// apart; the stream is its own.
    pub fn new(number: u16, clientset: Clientset, controller: Name, host: &str, epoch: Epoch, stream: Stream) -> Self {
        let instance = format!("{controller}-{host}").into();
        let reporter = Reporter { component: controller, host: Name::EMPTY, instance, source_only: false };
        SeriesRecorder {
            number,
            clientset,
            classes: Classes::new(reporter),
            epoch,
            stream,
            events: Map::default(),
            sequence: 0,
            writes: BTreeMap::new(),
            retries: BTreeMap::new(),
            last_stamp: SimTime::ZERO,
            next_look: None,
        }
    }

    /// Records an event.
    pub fn record<T: Copy>(&mut self, note: SeriesNote, client: &mut Client<T>, ctx: &mut dyn Context<ApiMessage>) {
        let now = self.epoch.micro_time(ctx.now());
        let key = identity(&note);
        if let Some(known) = self.events.get_mut(&key) {
            match &mut Rc::make_mut(&mut known.event).occurrence_mut().series {
                Some(series) => **series = (series.0.saturating_add(1), now),
                series => {
                    *series = Some(Box::new((2, now)));
                    let event = known.event.clone();
                    self.write(Write { key, event, patching: true, tries: 0 }, client, ctx);
                }
            }
            return;
        }
        let event = Rc::new(self.event(note, ctx.now()));
        self.sequence += 1;
        self.events.insert(key, Known { number: self.sequence, event: event.clone() });
        self.write(Write { key, event, patching: false, tries: 0 }, client, ctx);
        self.look_later(ctx);
    }

    /// Takes the answer to one of the recorder's requests ([`Caller::Recorder`] with its number).
    pub fn answered<T: Copy>(
        &mut self,
        id: RequestId,
        result: Result<Answer, Failure>,
        client: &mut Client<T>,
        ctx: &mut dyn Context<ApiMessage>,
    ) {
        let Some(mut write) = self.writes.remove(&id) else { return };
        let failure = match result {
            Ok(answer) => return self.stored(&write, answer),
            Err(failure) => failure,
        };
        let is_series = write.event.series().is_some();
        match failure.reason() {
            Some(Reason::NotFound) if write.patching => {
                write.patching = false;
                let event = Event::clone(&write.event);
                event.meta.resource_version.set(0);
                write.event = Rc::new(event);
                return self.write(write, client, ctx);
            }
            // A series whose event came to be between the patch and the creation.
            Some(Reason::AlreadyExists) if is_series => {}
            Some(_) => return,
            None => {}
        }
        write.tries += 1;
        write.patching = is_series;
        if write.tries < MAX_TRIES {
            self.sequence += 1;
            let at = ctx.now() + self.pause();
            self.retries.insert((at, self.sequence), write);
            ctx.set_timer(at, tokens::recorder(self.number));
        }
    }

    /// An event was written. A new one that nobody has counted since is remembered as it was stored, so that it is there but once.
    fn stored(&mut self, write: &Write, answer: Answer) {
        if let Answer::Object(Object::Event(stored)) = answer
            && !write.patching
            && let Some(known) = self.events.get_mut(&write.key).filter(|known| Rc::ptr_eq(&known.event, &write.event))
        {
            known.event = stored;
        }
    }

    /// Takes the recorder's timer (see [`recorder_timer`](super::tokens::recorder_timer)).
    pub fn timer<T: Copy>(&mut self, client: &mut Client<T>, ctx: &mut dyn Context<ApiMessage>) {
        let now = ctx.now();
        while let Some(entry) = self.retries.first_entry()
            && entry.key().0 <= now
        {
            let write = entry.remove();
            self.write(write, client, ctx);
        }
        if self.next_look.is_some_and(|at| at <= now) {
            self.next_look = None;
            self.look(client, ctx);
            self.look_later(ctx);
        }
    }

    /// Between 10 and 12.5 seconds.
    fn pause(&mut self) -> SimDuration {
        PAUSE + SimDuration::from_nanos(self.stream.below(PAUSE.as_nanos() / 4))
    }

    /// Ends series that did not go on, forgets single events, and every half hour writes the series that go on.
    fn look<T: Copy>(&mut self, client: &mut Client<T>, ctx: &mut dyn Context<ApiMessage>) {
        let now = ctx.now();
        let ended_before = MicroTime(self.epoch.micro_time(now).0 - (FINISH.as_nanos() / 1_000) as i64);
        let refresh = (now.as_nanos() / FINISH.as_nanos()).is_multiple_of(LOOKS_PER_REFRESH);
        let mut to_write = Vec::new();
        self.events.retain(|key, Known { number, event }| {
            let series = event.series();
            let last = series.map_or_else(|| event.occurrence().event_time, |(_, last)| last);
            let ended = last < ended_before;
            if series.is_some() && (ended || refresh) {
                to_write.push((*number, *key, event.clone()));
            }
            !ended
        });
        to_write.sort_unstable_by_key(|(number, ..)| *number);
        for (_, key, event) in to_write {
            self.write(Write { key, event, patching: true, tries: 0 }, client, ctx);
        }
    }

    /// The looks are at multiples of six minutes; there is none while nothing is remembered.
    fn look_later(&mut self, ctx: &mut dyn Context<ApiMessage>) {
        if self.next_look.is_none() && !self.events.is_empty() {
            let at = (ctx.now() + SimDuration::from_nanos(1)).next_tick(SimTime::ZERO, FINISH);
            self.next_look = Some(at);
            ctx.set_timer(at, tokens::recorder(self.number));
        }
    }

    fn write<T: Copy>(&mut self, write: Write, client: &mut Client<T>, ctx: &mut dyn Context<ApiMessage>) {
        let operation = match write.event.series() {
            Some((count, last)) if write.patching => {
                let patch = json!({ "series": { "count": count, "lastObservedTime": rfc3339_micro(last) } });
                let meta = &write.event.meta;
                let key = ObjectKey::new(Kind::Event, meta.namespace.clone(), meta.name.clone());
                Operation::Patch { key, patch: Patch::Strategic(Rc::new(patch)), part: Part::Main, dry_run: false }
            }
            _ => Operation::Create { object: write.event.clone().into_object(), dry_run: false },
        };
        let id = client.request(self.clientset, Caller::Recorder(self.number), operation, ctx);
        self.writes.insert(id, write);
    }

    fn event(&mut self, note: SeriesNote, now: SimTime) -> Event {
        self.last_stamp = now.max(self.last_stamp + SimDuration::from_nanos(1));
        let name = event_name(&note.regarding.name, self.epoch, self.last_stamp);
        let meta = new_meta(event_namespace(&note.regarding.namespace), name);
        let involved = (Rc::new(Involved::of(&note.regarding)), note.regarding.resource_version);
        let class = self.classes.share(note.kind, &note.reason, &note.regarding, false);
        let occurrence = Occurrence {
            event_time: self.epoch.micro_time(now),
            action: Some(note.action),
            related: note.related.map(Box::new),
            ..Occurrence::default()
        };
        Event::new(meta, involved, class, note.message.into(), occurrence)
    }
}

/// What makes two events the same: all but the sentence (client-go, `getKey`).
fn identity(note: &SeriesNote) -> u64 {
    let reference = |about: &ObjectReference| {
        let texts = [&about.api_version, &about.kind, &about.namespace, &about.name, &about.field_path];
        let numbers = [(about.uid.0 >> 64) as u64, about.uid.0 as u64, about.resource_version];
        digest(texts.map(|text| text.as_str()), &numbers)
    };
    let related = note.related.as_ref().map_or(0, reference);
    digest([note.reason.as_str(), &note.action], &[note.kind as u64, reference(&note.regarding), related])
}

/// As `2026-11-20T20:38:58.123456Z`.
fn rfc3339_micro(date: MicroTime) -> String {
    let date = jiff::Timestamp::from_microsecond(date.0).unwrap_or_default();
    format!("{date:.6}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::meta::Uid;
    use crate::apiserver::protocol::User;
    use crate::client::delivery::Delivery;
    use crate::client::script::{Process, Run, SERVER, writes};
    use crate::client::transport::ClientsetConfig;
    use crate::engine::process::Input;
    use crate::engine::random::Seed;

    struct Scribe {
        client: Client<()>,
        recorder: SeriesRecorder,
    }

    impl Process for Scribe {
        fn handle(&mut self, input: Input<ApiMessage>, ctx: &mut dyn Context<ApiMessage>) {
            if let Some(Input::Timer { token }) = self.client.handle(input, ctx) {
                assert_eq!(tokens::recorder_timer(token), Some(0));
                self.recorder.timer(&mut self.client, ctx);
            }
            while let Some(Delivery::Answered { id, result, .. }) = self.client.next_delivery() {
                self.recorder.answered(id, result, &mut self.client, ctx);
            }
        }
    }

    fn scribe() -> Run<Scribe> {
        let mut client = Client::new(vec![SERVER]);
        let user = Rc::new(User { name: Name::of("test"), groups: Vec::new() });
        let config = ClientsetConfig { user, agent: Name::of("test"), limit: None, timeout: None, lane: 0 };
        let clientset = client.add_clientset(config);
        let stream = Seed(1).stream("scribe", "event-retry");
        let epoch = Epoch(1_795_204_800_000_000_000);
        let name = Name::of("default-scheduler");
        let recorder = SeriesRecorder::new(0, clientset, name, "control-plane-0", epoch, stream);
        Run::start(Scribe { client, recorder })
    }

    fn fail_scheduling(run: &mut Run<Scribe>, pod: &'static str, message: &str) {
        let regarding = ObjectReference {
            kind: Name::of("Pod"),
            namespace: Name::of("default"),
            name: Name::of(pod),
            uid: Uid(5),
            ..ObjectReference::default()
        };
        let note = SeriesNote {
            regarding,
            related: None,
            kind: EventType::Warning,
            reason: Name::of("FailedScheduling"),
            action: Name::of("Scheduling"),
            message: message.to_owned(),
        };
        run.process.recorder.record(note, &mut run.process.client, &mut run.desk);
        run.pass(SimDuration::from_secs(1));
    }

    #[test]
    fn the_second_event_makes_a_series_and_more_are_only_counted_until_it_ends() {
        let mut run = scribe();
        for message in ["0/1 nodes", "0/2 nodes", "0/3 nodes", "0/4 nodes"] {
            fail_scheduling(&mut run, "web", message);
        }
        let Some(Object::Event(event)) = run.server.objects.values().next() else { panic!("no event") };
        let said = event.occurrence();
        assert_eq!((said.count, event.class.reporter.instance.as_str()), (0, "default-scheduler-control-plane-0"));
        assert_eq!((said.event_time, event.message.as_str()), (MicroTime(1_795_204_800_000_000), "0/1 nodes"));
        run.pass(SimDuration::from_secs(3_600));
        let writes = writes(&run.server);
        assert_eq!(writes.len(), 3, "{writes:?}");
        assert_eq!([writes[1].0, writes[2].0], [1_001, 720_001]);
        let Operation::Patch { patch: Patch::Strategic(patch), .. } = &run.server.requests[2].2.operation else {
            panic!("{:?}", run.server.requests[2]);
        };
        let expected = json!({ "series": { "count": 4, "lastObservedTime": "2026-11-20T20:00:03.000000Z" } });
        assert_eq!(**patch, expected);
        assert!(run.process.recorder.events.is_empty());
        fail_scheduling(&mut run, "web", "0/5 nodes");
        assert_eq!(run.server.objects.len(), 2, "after the end of a series an event is new");
    }

    #[test]
    fn single_events_are_forgotten_and_then_no_timer_is_left() {
        let mut run = scribe();
        fail_scheduling(&mut run, "a", "0/1 nodes");
        fail_scheduling(&mut run, "b", "0/1 nodes");
        run.pass(SimDuration::from_secs(86_400));
        assert_eq!(writes(&run.server).len(), 2);
        assert_eq!(run.desk.timers_fired, 2, "looks after 6 and 12 minutes");
    }

    #[test]
    fn an_event_is_remembered_as_it_was_stored() {
        let mut run = scribe();
        fail_scheduling(&mut run, "web", "0/1 nodes");
        let known = run.process.recorder.events.values().next().map(|known| known.event.clone()).expect("one event");
        let Some(Object::Event(stored)) = run.server.objects.values().next() else { panic!("no event") };
        assert!(Rc::ptr_eq(&known, stored), "{known:?}");
    }

    #[test]
    fn a_series_whose_event_is_gone_is_made_anew_as_a_series() {
        let mut run = scribe();
        fail_scheduling(&mut run, "web", "0/1 nodes");
        let key = run.server.objects.keys().next().cloned().expect("the event");
        run.server.delete(&key);
        fail_scheduling(&mut run, "web", "0/1 nodes");
        let Some(Object::Event(event)) = run.server.objects.values().next() else { panic!("no event") };
        assert_eq!(event.series().map(|(count, _)| count), Some(2));
    }
}
