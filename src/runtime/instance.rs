//! The life of one simulated container: what its image's model draws for it when it starts, and how it answers probes.

use std::net::IpAddr;
use std::rc::Rc;

use crate::api::instance_id::InstanceId;
use crate::api::name::Name;
use crate::api::pod::Handler;
use crate::engine::process::TimerId;
use crate::engine::random::Stream;
use crate::engine::time::{SimDuration, SimTime};

use super::interface::{ContainerConfig, Exit, ExitReason, Limits, ProbeKind, ProbeOutcome};
use super::model::{ExitModel, Health, ImageModel, ProbeFailure, Usage};

/// One instance of a container.
#[derive(Debug)]
pub struct Instance {
    /// The image.
    pub image: Name,
    /// What the image does.
    pub model: Rc<ImageModel>,
    /// What it may use.
    pub limits: Limits,
    /// How readily it is killed when the node has no memory left.
    pub oom_score_adjustment: i32,
    /// When it was started; none before.
    pub started: Option<SimTime>,
    /// How it ended; none before.
    pub exit: Option<Exit>,
    /// The exit that is due and the timer that brings it about.
    pub due: Option<(Exit, u64, TimerId)>,
    /// How often it was probed: names the streams of its probes.
    pub probes: u32,
    /// What the load of its pod costs it; none if load costs it no memory.
    load: Option<Box<Load>>,
    /// When the answers to probes turn, by kind; none if they never do.
    turns: Option<Box<[Vec<SimTime>; 3]>>,
}

/// What load costs a container.
#[derive(Debug, Default)]
struct Load {
    /// Memory in bytes.
    bytes: u64,
    /// How the container ends by itself, whatever load it bears.
    own: Option<Exit>,
    /// It was told to stop: its end is settled.
    stopping: bool,
}

impl Instance {
    /// A container that does not run yet.
    pub fn new(config: &ContainerConfig, model: &Rc<ImageModel>) -> Self {
        Instance {
            image: config.image.clone(),
            model: model.clone(),
            limits: config.limits,
            oom_score_adjustment: config.oom_score_adjustment,
            started: None,
            exit: None,
            due: None,
            probes: 0,
            load: (model.load.memory.0 > 0).then(Box::default),
            turns: None,
        }
    }

    /// True while it runs.
    pub fn is_running(&self) -> bool {
        self.started.is_some() && self.exit.is_none()
    }

    /// Begins its life; draws how it will go. Returns the exit that it comes to by itself, if it does.
    pub fn start(&mut self, attempt: u32, stream: &mut Stream, now: SimTime) -> Option<Exit> {
        self.started = Some(now);
        let model = self.model.clone();
        let healths = [&model.readiness, &model.liveness, &model.startup];
        if healths.iter().any(|health| !health.turns.is_empty()) {
            self.turns = Some(Box::new(healths.map(|health| turns(health, stream, now))));
        }
        let exit = model.exit.as_ref().map(|exit| self.own_exit(exit, attempt, stream, now));
        let crash = model.crash.as_ref().filter(|crash| crash.chances > 0 && crash.out_of > 0).and_then(|crash| {
            let at = now + crash.after.0.sample(stream);
            let crashes = stream.ratio(crash.out_of, crash.chances);
            crashes.then_some(Exit { code: crash.code, reason: reason_of(crash.code), at })
        });
        let own = exit.into_iter().chain(crash).min_by_key(|exit| exit.at);
        if let Some(load) = &mut self.load {
            load.own = own;
        }
        own.into_iter().chain(self.out_of_memory(now)).min_by_key(|exit| exit.at)
    }

    /// The load of its pod is now so many thousandths of a unit. Returns how it ends with that, if it does; none if that changes nothing.
    pub fn bear(&mut self, thousandths: u64, now: SimTime) -> Option<Option<Exit>> {
        let per_unit = self.model.load.memory.0;
        let load = self.load.as_mut()?;
        let bytes = u64::try_from(u128::from(thousandths) * u128::from(per_unit) / 1000).unwrap_or(u64::MAX);
        if load.bytes == bytes || load.stopping || self.started.is_none() || self.exit.is_some() {
            return None;
        }
        load.bytes = bytes;
        let own = load.own;
        Some(own.into_iter().chain(self.out_of_memory(now)).min_by_key(|exit| exit.at))
    }

    /// It was told to stop.
    pub fn settle(&mut self) {
        if let Some(load) = &mut self.load {
            load.stopping = true;
        }
    }

    /// The end that the kernel brings when the memory in use first exceeds the limit from now on.
    pub fn out_of_memory(&self, now: SimTime) -> Option<Exit> {
        let limit = u64::try_from(self.limits.memory).ok().filter(|limit| *limit > 0)?;
        let started = self.started?;
        if self.memory(now) > limit {
            return Some(Exit { code: 137, reason: ExitReason::OomKilled, at: now });
        }
        let load = self.load.as_ref().map_or(0, |load| load.bytes);
        let above = self.model.memory.iter().filter(|usage| usage.amount.0.saturating_add(load) > limit);
        let at = above.map(|usage| started + usage.from.0).filter(|at| *at > now).min()?;
        Some(Exit { code: 137, reason: ExitReason::OomKilled, at })
    }

    /// How it ends by itself.
    fn own_exit(&self, exit: &ExitModel, attempt: u32, stream: &mut Stream, now: SimTime) -> Exit {
        let after = exit.after.0.sample(stream);
        let at = now + if exit.cpu_bound { self.held_back(after) } else { after };
        let code = exit.codes.get(attempt as usize).or(exit.codes.last()).copied().unwrap_or(0);
        if exit.out_of_memory {
            // containerd tells that something in the container was killed so, whatever the code.
            return Exit { code: if code == 0 { 137 } else { code }, reason: ExitReason::OomKilled, at };
        }
        Exit { code, reason: reason_of(code), at }
    }

    /// How long work takes that would take so long with all the CPU that it can use (CFS quota: `limits.cpu`).
    fn held_back(&self, work: SimDuration) -> SimDuration {
        let Some(limit) = u64::try_from(self.limits.milli_cpu).ok().filter(|limit| *limit > 0) else { return work };
        let (mut left, mut passed) = (u128::from(work.as_nanos()), 0u128);
        for (place, usage) in self.model.cpu.iter().enumerate() {
            let wanted = u128::from(usage.amount.max(limit));
            let begin = u128::from(usage.from.0.as_nanos()).max(passed);
            // Before the model says anything the CPU is not what holds the work up.
            let free = left.min(begin - passed);
            (left, passed) = (left - free, passed + free);
            let takes = left * wanted / u128::from(limit);
            let end = self.model.cpu.get(place + 1).map(|next| u128::from(next.from.0.as_nanos()));
            match end.filter(|end| passed + takes > *end) {
                Some(end) if end > passed => {
                    left -= (end - passed) * u128::from(limit) / wanted;
                    passed = end;
                }
                Some(_) => {}
                None => (left, passed) = (0, passed + takes),
            }
        }
        SimDuration::from_nanos(u64::try_from(passed + left).unwrap_or(u64::MAX))
    }

    /// The CPU that it gets, in thousandths of a core: what it wants, but not more than its limit.
    pub fn milli_cpu(&self, now: SimTime) -> u64 {
        let wanted = self.amount(&self.model.cpu, now).copied().unwrap_or(0);
        u64::try_from(self.limits.milli_cpu).ok().filter(|limit| *limit > 0).map_or(wanted, |limit| limit.min(wanted))
    }

    /// The memory that it uses.
    pub fn memory(&self, now: SimTime) -> u64 {
        let load = self.load.as_ref().filter(|_| self.is_running()).map_or(0, |load| load.bytes);
        self.amount(&self.model.memory, now).map_or(0, |size| size.0).saturating_add(load)
    }

    /// What a model says for a time; none if it does not run.
    pub fn amount<'a, T>(&self, usages: &'a [Usage<T>], now: SimTime) -> Option<&'a T> {
        let started = self.started.filter(|_| self.exit.is_none())?;
        amount_at(usages, started, now)
    }

    /// Changes of what it uses from now on that a model says.
    pub fn next_change<T>(&self, usages: &[Usage<T>], now: SimTime) -> Option<SimTime> {
        let started = self.started.filter(|_| self.exit.is_none())?;
        usages.iter().map(|usage| started + usage.from.0).filter(|at| *at > now).min()
    }

    /// How it ends after SIGTERM now and SIGKILL at the end of the grace.
    pub fn stop(&self, grace: SimDuration, stream: &mut Stream, now: SimTime) -> Exit {
        let killed = Exit { code: 137, reason: ExitReason::Error, at: now + grace };
        let stop = &self.model.stop;
        let takes = stop.takes.0.sample(stream);
        if stop.ignores_term || takes > grace {
            return killed;
        }
        Exit { code: stop.code, reason: reason_of(stop.code), at: now + takes }
    }

    /// The model of what probes of a kind find, and its place among the kinds.
    fn health(&self, kind: ProbeKind) -> (&Health, usize) {
        match kind {
            ProbeKind::Readiness => (&self.model.readiness, 0),
            ProbeKind::Liveness => (&self.model.liveness, 1),
            ProbeKind::Startup => (&self.model.startup, 2),
        }
    }

    /// How often the answers to probes of a kind have turned.
    fn turned(&self, place: usize, now: SimTime) -> usize {
        self.turns.as_ref().map_or(0, |all| all[place].iter().filter(|turn| **turn <= now).count())
    }

    /// Until when every probe finds what one finds now, as long as the instance runs; now if none of them can be foreseen
    /// because an answer may well take too long.
    pub fn same_until(&self, question: &Question<'_>, now: SimTime) -> SimTime {
        let (health, place) = self.health(question.kind);
        if health.latency.0.practical_maximum() > question.timeout {
            return now;
        }
        let turns = self.turns.as_ref().map_or(&[][..], |all| &all[place]);
        turns.get(self.turned(place, now)).copied().unwrap_or(SimTime::MAX)
    }

    /// What a probe finds now, and after how long.
    pub fn probe(&self, question: &Question<'_>, stream: &mut Stream, now: SimTime) -> (SimDuration, ProbeOutcome) {
        let (health, turns) = self.health(question.kind);
        let turned = self.turned(turns, now);
        let passing = health.passing ^ (turned % 2 == 1);
        let latency = health.latency.0.sample(stream);
        let times_failing = (turned + usize::from(!health.passing)).div_ceil(2).max(1);
        let looks = health.failures.get(times_failing - 1).or(health.failures.last()).unwrap_or(&health.failure);
        // A gRPC client tries to connect until its time is over.
        let grpc = matches!(question.handler, Handler::Grpc { .. });
        let hangs = *looks == ProbeFailure::Hangs || (grpc && *looks == ProbeFailure::Refused);
        if !passing && hangs {
            return (question.timeout, ProbeOutcome::Failure(timed_out(question)));
        }
        if latency > question.timeout {
            let late = format!("timeout: health rpc did not complete within {}", question.timeout);
            let why = if grpc { late } else { timed_out(question) };
            return (question.timeout, ProbeOutcome::Failure(why));
        }
        if let Some(error) = self.grpc_error(question) {
            return (latency, ProbeOutcome::Failure(error));
        }
        let outcome = if passing { ProbeOutcome::Success } else { ProbeOutcome::Failure(failure(looks, question)) };
        (latency, outcome)
    }

    /// Why a gRPC server that answers does not answer as to its health (pkg/probe/grpc, `Probe`).
    fn grpc_error(&self, question: &Question<'_>) -> Option<String> {
        let (Handler::Grpc { service, .. }, Some(model)) = (question.handler, &self.model.grpc) else { return None };
        let protocol = "grpc.health.v1.Health";
        if !model.implemented {
            return Some(format!(
                "error: this server does not implement the grpc health protocol ({protocol}): unknown service {protocol}"
            ));
        }
        let unknown = model
            .services
            .as_ref()
            .is_some_and(|known| !service.is_empty() && !known.iter().any(|one| *service == **one));
        unknown.then(|| "error: health rpc probe failed: rpc error: code = NotFound desc = unknown service".to_owned())
    }
}

/// A probe as the container meets it.
#[derive(Clone, Copy, Debug)]
pub struct Question<'a> {
    /// Which question.
    pub kind: ProbeKind,
    /// How it is asked.
    pub handler: &'a Handler,
    /// Where, if over the network.
    pub address: Option<IpAddr>,
    /// When the probe has failed.
    pub timeout: SimDuration,
}

impl Question<'_> {
    /// What a probe finds of a container that has ended, whose sandbox is still there: its runtime has no task in which to run a
    /// command, and nobody listens at its ports.
    pub fn unanswered(&self, instance: &InstanceId) -> (SimDuration, ProbeOutcome) {
        match self.handler {
            Handler::Exec(_) | Handler::Sleep { .. } => {
                let id = instance.to_string();
                let id = id.split_once("://").map_or(&*id, |(_, id)| id);
                let why = format!("failed to load task: no running task found: task {id} not found: not found");
                let error = format!("rpc error: code = NotFound desc = failed to exec in container: {why}");
                (SimDuration::ZERO, ProbeOutcome::Errored(error))
            }
            Handler::Grpc { .. } => (self.timeout, ProbeOutcome::Failure(timed_out(self))),
            Handler::HttpGet { .. } | Handler::TcpSocket { .. } => {
                (SimDuration::ZERO, ProbeOutcome::Failure(failure(&ProbeFailure::Refused, self)))
            }
        }
    }

    fn address(&self, port: u16) -> String {
        match self.address {
            Some(IpAddr::V6(address)) => format!("[{address}]:{port}"),
            Some(address) => format!("{address}:{port}"),
            None => format!("localhost:{port}"),
        }
    }
}

/// The times at which the answers to probes of one kind turn.
fn turns(health: &Health, stream: &mut Stream, now: SimTime) -> Vec<SimTime> {
    let mut turns: Vec<SimTime> = health.turns.iter().map(|turn| now + turn.0.sample(stream)).collect();
    turns.sort_unstable();
    turns
}

/// What a model says for a time, of an instance that was started at another.
pub fn amount_at<T>(usages: &[Usage<T>], started: SimTime, time: SimTime) -> Option<&T> {
    let age = (time >= started).then(|| time.since(started))?;
    usages.iter().rfind(|usage| usage.from.0 <= age).map(|usage| &usage.amount)
}

/// containerd calls an exit with code 0 Completed and any other Error.
fn reason_of(code: i32) -> ExitReason {
    if code == 0 { ExitReason::Completed } else { ExitReason::Error }
}

/// The kubelet's words for a probe that failed (pkg/probe: http, tcp, exec and grpc).
fn failure(failure: &ProbeFailure, question: &Question<'_>) -> String {
    let refused = |port: u16| format!("dial tcp {}: connect: connection refused", question.address(port));
    match question.handler {
        Handler::Exec(_) | Handler::Sleep { .. } => match failure {
            ProbeFailure::Output(output) => output.clone(),
            _ => String::new(),
        },
        Handler::HttpGet { port, path } => match failure {
            ProbeFailure::Refused => {
                format!("Get \"http://{}{path}\": {}", question.address(*port), refused(*port))
            }
            ProbeFailure::Status(status) => format!("HTTP probe failed with statuscode: {status}"),
            _ => "HTTP probe failed with statuscode: 500".to_owned(),
        },
        Handler::TcpSocket { port } => refused(*port),
        Handler::Grpc { .. } => {
            let status = if let ProbeFailure::Grpc(status) = failure { status } else { "NOT_SERVING" };
            format!("service unhealthy (responded with {status:?})")
        }
    }
}

/// The kubelet's words for a probe that got no answer in time.
fn timed_out(question: &Question<'_>) -> String {
    match question.handler {
        Handler::Exec(command) => {
            format!("command timed out: {:?} timed out after {}", command.join(" "), question.timeout)
        }
        Handler::HttpGet { port, path } => format!(
            "Get \"http://{}{path}\": context deadline exceeded (Client.Timeout exceeded while awaiting headers)",
            question.address(*port)
        ),
        Handler::TcpSocket { port } => format!("dial tcp {}: i/o timeout", question.address(*port)),
        Handler::Grpc { port, .. } => format!(
            "timeout: failed to connect service {:?} within {}: context deadline exceeded",
            question.address(*port),
            question.timeout
        ),
        Handler::Sleep { seconds } => format!("sleep {seconds} timed out after {}", question.timeout),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::meta::Uid;

    #[test]
    fn a_container_that_has_ended_runs_no_command_and_accepts_no_connection() {
        let instance = InstanceId::Made { pod: Uid(7), index: 0, attempt: 1 };
        let ask = |handler: &Handler| {
            let address = Some("10.244.0.9".parse().expect("an address"));
            let timeout = SimDuration::from_secs(1);
            Question { kind: ProbeKind::Readiness, handler, address, timeout }.unanswered(&instance)
        };
        let task = instance.to_string();
        let task = task.strip_prefix("containerd://").expect("a containerd id");
        let error = format!(
            "rpc error: code = NotFound desc = failed to exec in container: failed to load task: \
             no running task found: task {task} not found: not found"
        );
        let exec = Handler::Exec(Rc::from(vec!["true".to_owned()]));
        assert_eq!(ask(&exec), (SimDuration::ZERO, ProbeOutcome::Errored(error)));
        let refused = "dial tcp 10.244.0.9:80: connect: connection refused".to_owned();
        let connect = Handler::TcpSocket { port: 80 };
        assert_eq!(ask(&connect), (SimDuration::ZERO, ProbeOutcome::Failure(refused)));
    }
}
