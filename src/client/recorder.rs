//! The event recorder of the controllers and the kubelet (client-go, `tools/record`): events with source, count and first
//! and last timestamp.
//!
//! Events are written one after the other through the component's own client, as client-go's one goroutine does; nobody waits
//! for them, and when a thousand wait, more are dropped.

use std::collections::VecDeque;
use std::rc::Rc;

use serde_json::json;
use smallvec::SmallVec;

use super::correlator::Correlator;
use super::delivery::{Caller, Failure};
use super::lately::{Classes, Lately};
use super::plan::EventNote;
use super::tokens;
use super::transport::{Client, Clientset};
use crate::api::event::{Event, Involved, Occurrence, Reporter};
use crate::api::kind::Kind;
use crate::api::meta::{Epoch, Meta, ObjectKey, Timestamp, Uid};
use crate::api::name::Name;
use crate::api::object::Resource;
use crate::apiserver::protocol::{Answer, ApiMessage, Operation, Part, Patch, new_meta};
use crate::apiserver::status::Reason;
use crate::engine::process::{Cause, Context};
use crate::engine::random::Stream;
use crate::engine::time::{SimDuration, SimTime};

/// Events that may wait to be written (client-go, `maxQueuedEvents`).
const MAX_WAITING: usize = 1000;

/// How often it is tried to write an event while no server answers (`maxTriesPerEvent`).
pub(super) const MAX_TRIES: u32 = 12;

/// The pause between two tries (`defaultSleepDuration`).
pub(super) const PAUSE: SimDuration = SimDuration::from_secs(10);

/// A virtual time that names an event: no two events of a recorder have the same.
pub(super) type Stamp = SimTime;

/// Writes a component's events.
pub struct Recorder {
    number: u16,
    clientset: Clientset,
    /// What the last events were about: the next one is often about the same.
    involved: Lately<Rc<Involved>, 4>,
    classes: Classes,
    /// The last messages: many pods give occasion to the same words.
    messages: Lately<Name, 8>,
    epoch: Epoch,
    stream: Stream,
    correlator: Correlator,
    /// Mostly none.
    waiting: VecDeque<Box<Draft>>,
    writing: Option<Writing>,
    last_stamp: Stamp,
}

/// An event that is to be written.
pub(super) struct Draft {
    pub(super) note: EventNote,
    /// When it was first; its name says so.
    pub(super) first: Stamp,
    pub(super) last: Stamp,
    pub(super) count: i32,
    /// It stands for several with different messages.
    pub(super) several: bool,
    cause: Cause,
}

struct Writing {
    draft: Box<Draft>,
    /// True while it is tried to count up an event that should be there.
    patching: bool,
    tries: u32,
}

impl Recorder {
    /// A recorder for `component` on `host` (empty for components that do not belong to a node). `number` tells the recorders
    /// of a process apart; the stream is its own.
    pub fn new(number: u16, clientset: Clientset, component: Name, host: Name, epoch: Epoch, stream: Stream) -> Self {
        Recorder {
            number,
            clientset,
            involved: Lately::default(),
            classes: Classes::new(Reporter { component, instance: host.clone(), host, source_only: false }),
            messages: Lately::default(),
            epoch,
            stream,
            correlator: Correlator::default(),
            waiting: VecDeque::new(),
            writing: None,
            last_stamp: SimTime::ZERO,
        }
    }

    /// From now on this is the date at which virtual time was zero: the machine's clock is not what it was.
    pub fn set_epoch(&mut self, epoch: Epoch) {
        self.epoch = epoch;
    }

    /// Records an event. It is written when those before it are.
    pub fn record<T: Copy>(&mut self, note: EventNote, client: &mut Client<T>, ctx: &mut dyn Context<ApiMessage>) {
        if self.waiting.len() < MAX_WAITING {
            let stamp = self.stamp(ctx.now());
            let cause = ctx.cause();
            self.waiting.push_back(Box::new(Draft {
                note,
                first: stamp,
                last: stamp,
                count: 1,
                several: false,
                cause,
            }));
        }
        self.write_next(client, ctx);
    }

    /// Takes the answer to one of the recorder's requests ([`Caller::Recorder`] with its number).
    pub fn answered<T: Copy>(
        &mut self,
        result: Result<Answer, Failure>,
        client: &mut Client<T>,
        ctx: &mut dyn Context<ApiMessage>,
    ) {
        let Some(writing) = &mut self.writing else { return };
        match result {
            Err(failure) if writing.patching && failure.reason() == Some(Reason::NotFound) => {
                writing.patching = false;
                return self.write(client, ctx);
            }
            Err(failure) if !failure.is_refusal() && writing.tries + 1 < MAX_TRIES => {
                writing.tries += 1;
                let first = writing.tries == 1;
                let pause = if first { self.stream.below(PAUSE.as_nanos()) } else { PAUSE.as_nanos() };
                ctx.set_timer(ctx.now() + SimDuration::from_nanos(pause), tokens::recorder(self.number));
                return;
            }
            // Written, or refused: what the server refuses once it refuses again.
            _ => self.writing = None,
        }
        self.write_next(client, ctx);
    }

    /// Forgets what need not be remembered any more; what is recorded is the same with and without. To be called now and then.
    pub fn tidy(&mut self, now: SimTime) {
        self.correlator.tidy(now);
    }

    /// Takes the recorder's timer (see [`recorder_timer`](super::tokens::recorder_timer)).
    pub fn timer<T: Copy>(&mut self, client: &mut Client<T>, ctx: &mut dyn Context<ApiMessage>) {
        if let Some(writing) = &mut self.writing {
            writing.patching = writing.draft.count > 1;
            self.write(client, ctx);
        }
    }

    /// The time of an event: now, or the first nanosecond after the event before. A real clock has moved on too.
    fn stamp(&mut self, now: SimTime) -> Stamp {
        self.last_stamp = now.max(self.last_stamp + SimDuration::from_nanos(1));
        self.last_stamp
    }

    fn write_next<T: Copy>(&mut self, client: &mut Client<T>, ctx: &mut dyn Context<ApiMessage>) {
        while self.writing.is_none()
            && let Some(draft) = self.waiting.pop_front()
        {
            let stamp = self.stamp(ctx.now());
            if let Some(draft) = self.correlator.correlate(draft, ctx.now(), stamp) {
                let patching = draft.count > 1;
                self.writing = Some(Writing { draft, patching, tries: 0 });
                self.write(client, ctx);
            }
        }
    }

    fn write<T: Copy>(&mut self, client: &mut Client<T>, ctx: &mut dyn Context<ApiMessage>) {
        let Some(writing) = self.writing.take() else { return };
        let Writing { draft, patching, .. } = &writing;
        let namespace = event_namespace(&draft.note.regarding.namespace);
        let name = event_name(&draft.note.regarding.name, self.epoch, draft.first);
        let operation = if *patching {
            let patch = json!({
                "count": draft.count,
                "lastTimestamp": rfc3339(self.epoch.timestamp(draft.last)),
                "message": draft.note.message,
            });
            let key = ObjectKey { kind: Kind::Event, namespace, name };
            Operation::Patch { key, patch: Patch::Strategic(Rc::new(patch)), part: Part::Main, dry_run: false }
        } else {
            Operation::Create { object: self.event(draft, new_meta(namespace, name)).boxed(), dry_run: false }
        };
        let here = ctx.cause();
        ctx.set_cause(draft.cause);
        client.request(self.clientset, Caller::Recorder(self.number), operation, ctx);
        ctx.set_cause(here);
        self.writing = Some(writing);
    }

    fn event(&mut self, draft: &Draft, meta: Meta) -> Event {
        let EventNote { regarding, kind, reason, message } = &draft.note;
        let involved = self.involved.share(|known| known.is(regarding), || Rc::new(Involved::of(regarding)));
        let involved = (involved, regarding.resource_version);
        let class = self.classes.share(*kind, reason, regarding, draft.several);
        let message = self.messages.share(|known| **known == **message, || Name::new(message));
        let (first, last) = (self.epoch.timestamp(draft.first), self.epoch.timestamp(draft.last));
        Event::new(meta, involved, class, message, Occurrence { count: draft.count, first, last, ..Default::default() })
    }
}

/// Events about what has no namespace are in `default`.
pub(super) fn event_namespace(namespace: &Name) -> Name {
    if namespace.is_empty() { Name::of("default") } else { namespace.clone() }
}

/// The object's name, a dot, and the nanoseconds since 1970 in hexadecimal digits; a UUID where that is no name
/// (client-go, `GenerateEventName`).
pub(super) fn event_name(object: &str, epoch: Epoch, at: Stamp) -> Name {
    let nanos = epoch.0 + at.as_nanos() as i64;
    let (mut rest, mut digits, mut first) = (nanos as u64, [b'0'; 16], 16);
    while rest != 0 {
        first -= 1;
        digits[first] = b"0123456789abcdef"[(rest & 15) as usize];
        rest >>= 4;
    }
    let digits = str::from_utf8(&digits[first.min(15)..]).unwrap_or_default();
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-' || byte == b'.';
    let begins_well = object.starts_with(|c: char| c.is_ascii_alphanumeric());
    if begins_well && object.len() + 1 + digits.len() <= 253 && object.bytes().all(plain) {
        let mut name: SmallVec<[u8; 128]> = SmallVec::from_slice(object.as_bytes());
        name.push(b'.');
        name.extend_from_slice(digits.as_bytes());
        return str::from_utf8(&name).unwrap_or_default().into();
    }
    let high = super::recent::digest([object], &[]);
    Uid::from_random(high, nanos as u64).to_string().into()
}

/// As `2026-11-20T20:38:58Z`.
fn rfc3339(date: Timestamp) -> String {
    jiff::Timestamp::from_second(date.0).unwrap_or_default().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::event::{EventType, ObjectReference};
    use crate::api::object::Object;
    use crate::apiserver::protocol::User;
    use crate::apiserver::status::Status;
    use crate::client::delivery::Delivery;
    use crate::client::script::{Process, Run, SERVER, writes};
    use crate::client::transport::ClientsetConfig;
    use crate::engine::process::Input;
    use crate::engine::random::Seed;

    /// 2026-11-20T20:00:00Z.
    const EPOCH: Epoch = Epoch(1_795_204_800_000_000_000);

    struct Scribe {
        client: Client<()>,
        recorder: Recorder,
    }

    impl Process for Scribe {
        fn handle(&mut self, input: Input<ApiMessage>, ctx: &mut dyn Context<ApiMessage>) {
            if let Some(Input::Timer { token }) = self.client.handle(input, ctx) {
                assert_eq!(tokens::recorder_timer(token), Some(3));
                self.recorder.timer(&mut self.client, ctx);
            }
            while let Some(Delivery::Answered { result, .. }) = self.client.next_delivery() {
                self.recorder.answered(result, &mut self.client, ctx);
            }
        }
    }

    fn scribe() -> Run<Scribe> {
        let mut client = Client::new(vec![SERVER]);
        let user = Rc::new(User { name: Name::of("test"), groups: Vec::new() });
        let config = ClientsetConfig { user, agent: Name::of("test"), limit: None, timeout: None, lane: 0 };
        let clientset = client.add_clientset(config);
        let stream = Seed(1).stream("scribe", "event-retry");
        let recorder = Recorder::new(3, clientset, Name::of("kubelet"), Name::of("node-1"), EPOCH, stream);
        Run::start(Scribe { client, recorder })
    }

    fn record(run: &mut Run<Scribe>, kind: EventType, reason: &'static str, message: &str) {
        let regarding = ObjectReference {
            api_version: Name::of("v1"),
            kind: Name::of("Pod"),
            namespace: Name::of("default"),
            name: Name::of("web"),
            uid: Uid(5),
            ..ObjectReference::default()
        };
        let note = EventNote { regarding, kind, reason: Name::of(reason), message: message.to_owned() };
        run.process.recorder.record(note, &mut run.process.client, &mut run.desk);
        run.pass(SimDuration::from_secs(1));
    }

    #[test]
    fn an_event_carries_source_count_and_dates_and_is_named_after_its_object_and_time() {
        let mut run = scribe();
        run.pass(SimDuration::from_secs(2));
        record(&mut run, EventType::Normal, "Pulled", "Container image present");
        let Some(Object::Event(event)) = run.server.objects.values().next() else { panic!("no event") };
        assert_eq!(event.meta.name, format!("web.{:x}", 1_795_204_802_000_000_000i64).as_str());
        assert_eq!(
            (event.class.reporter.component.as_str(), event.class.reporter.host.as_str(), event.occurrence().count),
            ("kubelet", "node-1", 1)
        );
        assert_eq!(event.occurrence().first, Timestamp(1_795_204_802));
    }

    #[test]
    fn the_same_event_again_is_counted_up_and_made_anew_if_it_is_gone() {
        let mut run = scribe();
        record(&mut run, EventType::Warning, "BackOff", "Back-off restarting");
        record(&mut run, EventType::Warning, "BackOff", "Back-off restarting");
        let Operation::Patch { patch: Patch::Strategic(patch), .. } = &run.server.requests[1].2.operation else {
            panic!("{:?}", run.server.requests[1]);
        };
        let expected = json!({
            "count": 2, "lastTimestamp": "2026-11-20T20:00:01Z", "message": "Back-off restarting",
        });
        assert_eq!(**patch, expected);

        let key = run.server.objects.keys().next().cloned().expect("the event");
        run.server.delete(&key);
        record(&mut run, EventType::Warning, "BackOff", "Back-off restarting");
        let Some(Object::Event(event)) = run.server.objects.values().next() else { panic!("no event") };
        assert_eq!(
            (event.occurrence().count, event.occurrence().first, event.meta.name.clone()),
            (3, Timestamp(EPOCH.0 / 1_000_000_000), key.name)
        );
    }

    #[test]
    fn from_the_tenth_message_in_ten_minutes_on_events_are_combined() {
        let mut run = scribe();
        for number in 0..12 {
            record(&mut run, EventType::Warning, "Unhealthy", &format!("probe {number} failed"));
        }
        let messages: Vec<String> = run
            .server
            .objects
            .values()
            .map(|object| match object {
                Object::Event(event) => event.message.to_string(),
                other => panic!("{other:?}"),
            })
            .collect();
        assert_eq!(messages.len(), 10);
        assert_eq!(messages[8], "probe 8 failed");
        assert_eq!(messages[9], "(combined from similar events): probe 9 failed");
        let reporters = run.server.objects.values().map(|object| {
            let event = object.to_json();
            let of = |field: &str| event[field].as_str().map(str::to_owned).expect("it is said");
            assert_eq!(event["source"], json!({"component": "kubelet", "host": "node-1"}));
            (of("reportingComponent"), of("reportingInstance"))
        });
        let reporters: Vec<(String, String)> = reporters.collect();
        assert_eq!(reporters[8], ("kubelet".to_owned(), "node-1".to_owned()));
        assert_eq!(reporters[9], (String::new(), String::new()), "what stands for several has but a source");
        let writes = writes(&run.server);
        assert!(writes[..10].iter().all(|(_, write)| write.starts_with("create")));
        assert!(writes[10..].iter().all(|(_, write)| write.starts_with("patch")), "{writes:?}");
        run.pass(SimDuration::from_secs(601));
        record(&mut run, EventType::Warning, "Unhealthy", "probe 13 failed");
        assert_eq!(run.server.objects.len(), 11, "after ten quiet minutes messages stand for themselves again");
    }

    #[test]
    fn twenty_five_events_of_a_type_about_an_object_then_one_in_five_minutes() {
        let mut run = scribe();
        for _ in 0..40 {
            record(&mut run, EventType::Normal, "Pulled", "again");
        }
        assert_eq!(run.server.requests.len(), 25);
        record(&mut run, EventType::Warning, "Failed", "another type");
        assert_eq!(run.server.requests.len(), 26);
        run.pass(SimDuration::from_secs(300 - 41));
        record(&mut run, EventType::Normal, "Pulled", "again");
        record(&mut run, EventType::Normal, "Pulled", "again");
        assert_eq!(run.server.requests.len(), 27);
        let Operation::Patch { patch: Patch::Strategic(patch), .. } = &run.server.requests[26].2.operation else {
            panic!("{:?}", run.server.requests[26]);
        };
        assert_eq!(patch["count"], json!(41), "what was not written was counted");
    }

    #[test]
    fn an_event_is_tried_twelve_times_without_a_server_and_once_against_a_refusal() {
        let mut run = scribe();
        run.server.dead = true;
        record(&mut run, EventType::Normal, "Pulled", "unheard");
        for lost in 1..=12 {
            assert!(run.process.recorder.writing.is_some(), "given up after {} tries", lost - 1);
            run.pass(SimDuration::from_secs(60));
            run.break_connection();
        }
        run.pass(SimDuration::from_secs(60));
        assert!(run.process.recorder.writing.is_none());
        run.server.dead = false;
        run.server.refusals.push(Box::new(|_| Some(Status::new(Reason::Forbidden, "no"))));
        record(&mut run, EventType::Normal, "Created", "refused");
        run.pass(SimDuration::from_secs(3_600));
        assert_eq!(run.server.requests.len(), 1);
    }

    #[test]
    fn two_events_at_the_same_time_have_two_names() {
        assert_eq!(event_name("test-pod", Epoch(105_999_103_295_324_396), SimTime::ZERO), "test-pod.178959f726d80ec");
        let uuid = event_name(&"x".repeat(300), EPOCH, SimTime::ZERO);
        assert_eq!(uuid.len(), 36);
        let mut recorder = scribe().process.recorder;
        assert_ne!(recorder.stamp(SimTime::ZERO), recorder.stamp(SimTime::ZERO));
    }
}
