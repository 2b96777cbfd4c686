//! The life of one simulated container: what its image's model draws for it when it starts, and how it answers probes.

use std::net::IpAddr;
use std::rc::Rc;

use crate::api::name::Name;
use crate::api::pod::Handler;
use crate::engine::process::TimerId;
use crate::engine::random::Stream;
use crate::engine::time::{SimDuration, SimTime};

use super::interface::{ContainerConfig, Exit, ExitReason, ProbeKind, ProbeOutcome};
use super::model::{ExitModel, Health, ImageModel, ProbeFailure};

/// One instance of a container.
#[derive(Debug)]
pub struct Instance {
    /// The image.
    pub image: Name,
    /// What the image does.
    pub model: Rc<ImageModel>,
    /// The memory limit in bytes; zero for none.
    pub memory_limit: i64,
    /// When it was started; none before.
    pub started: Option<SimTime>,
    /// How it ended; none before.
    pub exit: Option<Exit>,
    /// The exit that is due and the timer that brings it about.
    pub due: Option<(Exit, u64, TimerId)>,
    /// How often it was probed: names the streams of its probes.
    pub probes: u32,
    /// When the answers to probes turn, by kind; none if they never do.
    turns: Option<Box<[Vec<SimTime>; 3]>>,
}

impl Instance {
    /// A container that does not run yet.
    pub fn new(config: &ContainerConfig, model: &Rc<ImageModel>) -> Self {
        Instance {
            image: config.image.clone(),
            model: model.clone(),
            memory_limit: config.memory_limit,
            started: None,
            exit: None,
            due: None,
            probes: 0,
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
        let exit = model.exit.as_ref().map(|exit| own_exit(exit, attempt, stream, now));
        let crash = model.crash.as_ref().filter(|crash| crash.chances > 0 && crash.out_of > 0).and_then(|crash| {
            let at = now + crash.after.0.sample(stream);
            let crashes = stream.ratio(crash.out_of, crash.chances);
            crashes.then_some(Exit { code: crash.code, reason: reason_of(crash.code), at })
        });
        [exit, crash, self.out_of_memory(now)].into_iter().flatten().min_by_key(|exit| exit.at)
    }

    /// The end that the kernel brings when the memory in use first exceeds the limit.
    fn out_of_memory(&self, now: SimTime) -> Option<Exit> {
        let limit = u64::try_from(self.memory_limit).ok().filter(|limit| *limit > 0)?;
        let above = self.model.memory.iter().filter(|usage| usage.amount.0 > limit).map(|usage| usage.from.0).min()?;
        Some(Exit { code: 137, reason: ExitReason::OomKilled, at: now + above })
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

    /// What a probe finds now, and after how long.
    pub fn probe(&self, question: &Question<'_>, stream: &mut Stream, now: SimTime) -> (SimDuration, ProbeOutcome) {
        let (health, turns) = match question.kind {
            ProbeKind::Readiness => (&self.model.readiness, 0),
            ProbeKind::Liveness => (&self.model.liveness, 1),
            ProbeKind::Startup => (&self.model.startup, 2),
        };
        let turned = self.turns.as_ref().map_or(0, |all| all[turns].iter().filter(|turn| **turn <= now).count());
        let passing = health.passing ^ (turned % 2 == 1);
        let latency = health.latency.0.sample(stream);
        let hangs = !passing && health.failure == ProbeFailure::Hangs;
        if hangs || latency > question.timeout {
            return (question.timeout, ProbeOutcome::Failure(timed_out(question)));
        }
        let outcome =
            if passing { ProbeOutcome::Success } else { ProbeOutcome::Failure(failure(&health.failure, question)) };
        (latency, outcome)
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

/// How an instance ends by itself.
fn own_exit(exit: &ExitModel, attempt: u32, stream: &mut Stream, now: SimTime) -> Exit {
    let at = now + exit.after.0.sample(stream);
    let code = exit.codes.get(attempt as usize).or(exit.codes.last()).copied().unwrap_or(0);
    if exit.out_of_memory {
        return Exit { code: 137, reason: ExitReason::OomKilled, at };
    }
    Exit { code, reason: reason_of(code), at }
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
        Handler::Grpc { port } => match failure {
            ProbeFailure::Refused => timed_out(&Question { handler: &Handler::Grpc { port: *port }, ..*question }),
            _ => "service unhealthy (responded with \"NOT_SERVING\")".to_owned(),
        },
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
        Handler::Grpc { port } => format!(
            "timeout: failed to connect service {:?} within {}: context deadline exceeded",
            question.address(*port),
            question.timeout
        ),
        Handler::Sleep { seconds } => format!("sleep {seconds} timed out after {}", question.timeout),
    }
}
