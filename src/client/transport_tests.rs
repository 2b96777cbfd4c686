//! Stories about requests: buckets, retries, broken and silent connections.

use std::rc::Rc;

use super::delivery::{Caller, Delivery, Failure};
use super::rate_limit::RateLimit;
use super::script::{Process, Run, SERVER, busy, config_map, millis};
use super::transport::{Client, Clientset, ClientsetConfig};
use crate::api::kind::Kind;
use crate::api::meta::ObjectKey;
use crate::api::name::Name;
use crate::apiserver::protocol::{Answer, ApiMessage, Operation, Scope, User};
use crate::apiserver::status::Reason;
use crate::apiserver::status::Status;
use crate::engine::process::{Cause, Context, Input, ProcessId};
use crate::engine::time::SimDuration;

/// Where the client goes when the first server is lost.
const OTHER: ProcessId = ProcessId(2);

/// Makes the requests it is given at the start and keeps what comes of them.
struct Asker {
    client: Client<usize>,
    clientset: Clientset,
    requests: Vec<Operation>,
    answers: Vec<(u64, usize, Result<Answer, Failure>)>,
    watches_ended: usize,
}

impl Process for Asker {
    fn handle(&mut self, input: Input<ApiMessage>, ctx: &mut dyn Context<ApiMessage>) {
        match self.client.handle(input, ctx) {
            Some(Input::Start) => {
                for (number, operation) in std::mem::take(&mut self.requests).into_iter().enumerate() {
                    let caller = Caller::Process(number);
                    match operation {
                        Operation::Watch { scope, after, .. } => {
                            self.client.watch(self.clientset, caller, scope, after, ctx);
                        }
                        operation => {
                            self.client.request(self.clientset, caller, operation, ctx);
                        }
                    }
                }
            }
            Some(other) => panic!("not for the client: {other:?}"),
            None => {}
        }
        while let Some(delivery) = self.client.next_delivery() {
            match delivery {
                Delivery::Answered { caller: Caller::Process(number), result, .. } => {
                    self.answers.push((ctx.now().as_millis(), number, result));
                }
                Delivery::WatchEnded { .. } => self.watches_ended += 1,
                Delivery::Events { .. } => {}
                Delivery::Answered { .. } => panic!("nobody asked for {delivery:?}"),
            }
        }
    }
}

fn asker(timeout: Option<SimDuration>, requests: Vec<Operation>) -> Run<Asker> {
    let mut client = Client::new(vec![SERVER, OTHER]);
    let user = Rc::new(User { name: Name::of("system:kube-controller-manager"), groups: Vec::new() });
    let limit = Some(RateLimit::controller());
    let config = ClientsetConfig { user, agent: Name::of("test"), limit, timeout, lane: 0 };
    let clientset = client.add_clientset(config);
    Run::start(Asker { client, clientset, requests, answers: Vec::new(), watches_ended: 0 })
}

fn create(name: &str) -> Operation {
    Operation::Create { object: config_map(name), dry_run: false }
}

fn get(name: &str) -> Operation {
    Operation::Get { key: ObjectKey::new(Kind::ConfigMap, "default", name) }
}

fn watch() -> Operation {
    Operation::Watch { watch: 0, scope: Scope::all(Kind::ConfigMap), after: None, bookmarks: true }
}

#[test]
fn thirty_requests_go_at_once_and_need_no_timer_then_one_every_fifty_milliseconds() {
    let mut run = asker(None, (0..30).map(|n| create(&format!("a{n}"))).collect());
    run.pass(SimDuration::from_secs(5));
    assert_eq!(run.desk.timers_fired, 0);
    assert!(run.process.answers.iter().all(|(at, _, _)| *at == 2));

    let mut run = asker(None, (0..34).map(|n| create(&format!("a{n}"))).collect());
    run.pass(SimDuration::from_secs(5));
    let sent: Vec<u64> = run.server.requests.iter().map(|(at, _, _)| at.as_millis()).collect();
    assert_eq!(sent[..30], [1; 30]);
    assert_eq!(sent[30..], [51, 101, 151, 201]);
    let order: Vec<usize> = run.process.answers.iter().map(|(_, number, _)| *number).collect();
    assert_eq!(order, (0..34).collect::<Vec<_>>());
}

#[test]
fn a_busy_server_is_asked_again_when_it_said_and_at_most_ten_times() {
    let mut run = asker(None, vec![create("a")]);
    let mut left = 2;
    run.server.refusals.push(Box::new(move |_| {
        left -= 1;
        (left >= 0).then(|| busy(3))
    }));
    run.pass(SimDuration::from_secs(60));
    let sent: Vec<u64> = run.server.requests.iter().map(|(at, _, _)| at.as_millis()).collect();
    assert_eq!(sent, [1, 3_003, 6_005]);
    assert!(matches!(run.process.answers[..], [(6_006, 0, Ok(Answer::Object(_)))]));

    let mut run = asker(None, vec![create("a")]);
    run.server.refusals.push(Box::new(|_| Some(busy(1))));
    run.pass(SimDuration::from_secs(60));
    assert_eq!(run.server.requests.len(), 11);
    assert!(matches!(&run.process.answers[..], [(_, 0, Err(failure))] if failure.is_refusal()));
}

#[test]
fn a_refusal_without_a_wait_goes_to_the_caller_at_once() {
    let mut run = asker(None, vec![create("a")]);
    run.server.refusals.push(Box::new(|_| Some(Status::new(Reason::TooManyRequests, "disruption budget"))));
    run.pass(SimDuration::from_secs(60));
    assert_eq!(run.server.requests.len(), 1);
    assert_eq!(run.process.answers[0].2.as_ref().map_err(Failure::reason).err(), Some(Some(Reason::TooManyRequests)));
}

#[test]
fn after_a_broken_connection_reads_are_tried_again_writes_fail_and_watches_end() {
    let mut run = asker(None, vec![get("a"), watch()]);
    run.server.write(config_map("a"));
    run.until(millis(5));
    assert!(matches!(run.process.answers[..], [(2, 0, Ok(_)), (2, 1, Ok(Answer::WatchStarted))]));
    run.process.requests = vec![create("b"), get("a")];
    run.process.handle(Input::Start, &mut run.desk);
    run.break_connection();
    run.pass(SimDuration::from_secs(2));
    assert_eq!(run.process.watches_ended, 1);
    let failed = &run.process.answers[2];
    assert!(matches!(failed, (5, 0, Err(Failure::ConnectionLost))), "{failed:?}");
    assert!(matches!(run.process.answers[3], (1_007, 1, Ok(_))));
}

#[test]
fn a_connection_that_never_came_about_fails_reads_too() {
    let mut run = asker(None, vec![get("a")]);
    run.server.dead = true;
    run.until(millis(3));
    run.break_connection();
    run.pass(SimDuration::from_secs(2));
    assert_eq!(run.process.answers.len(), 1);
    assert_eq!(run.process.answers[0].2.as_ref().err(), Some(&Failure::Unreachable));
}

#[test]
fn a_request_with_a_time_limit_fails_when_it_is_over_and_any_other_waits_for_as_long_as_the_connection_lives() {
    let mut run = asker(Some(SimDuration::from_secs(10)), vec![get("a")]);
    run.server.dead = true;
    run.pass(SimDuration::from_secs(200));
    assert!(matches!(run.process.answers[..], [(10_000, 0, Err(Failure::TimedOut))]));

    let mut run = asker(None, vec![create("a")]);
    run.server.dead = true;
    run.pass(SimDuration::from_secs(200));
    assert!(run.process.answers.is_empty());
    run.break_connection();
    run.pass(SimDuration::from_secs(1));
    assert!(matches!(run.process.answers[..], [(200_000, 0, Err(Failure::Unreachable))]), "{:?}", run.process.answers);
}

#[test]
fn a_request_that_waits_for_a_token_is_ascribed_to_what_asked_for_it() {
    let mut run = asker(None, (0..31).map(|n| create(&format!("a{n}"))).collect());
    run.pass(SimDuration::from_secs(1));
    let causes: Vec<Cause> = run.server.requests.iter().map(|(_, cause, _)| *cause).collect();
    assert_eq!(causes[30], causes[0]);
}

#[test]
fn a_lost_server_is_left_for_the_next_one_and_what_it_still_says_is_not_heard() {
    let mut run = asker(None, vec![get("a")]);
    run.server.write(config_map("a"));
    run.until(millis(5));
    assert_eq!(run.desk.addressed, SERVER);
    run.break_connection();
    run.pass(SimDuration::from_millis(1));
    run.process.requests = vec![get("a")];
    run.process.handle(Input::Start, &mut run.desk);
    assert_eq!(run.desk.addressed, OTHER);
    let late = ApiMessage::Response { id: 1, result: Ok(Answer::Done) };
    run.process.handle(Input::Message { from: SERVER, message: late }, &mut run.desk);
    run.pass(SimDuration::from_secs(1));
    assert_eq!(run.process.answers.len(), 2);
    run.break_connection();
    run.pass(SimDuration::from_millis(1));
    run.process.requests = vec![get("a")];
    run.process.handle(Input::Start, &mut run.desk);
    run.pass(SimDuration::from_secs(1));
    assert_eq!(run.desk.addressed, SERVER, "after the last server comes the first");
}
