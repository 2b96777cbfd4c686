//! Starting one container: its back-off, its image, making it, starting it, its postStart hook.
//!
//! Follows kuberuntime (`startContainer`, `doBackOff`) and the image manager (`EnsureImageExists`), events' texts included.

use crate::api::event::EventType;
use crate::api::name::Name;
use crate::api::pod::{ContainerRole, ContainerStatus, Handler, PullPolicy};
use crate::engine::time::{SimDuration, SimTime};
use crate::runtime::interface::{Action, ContainerConfig, ContainerId, HookKind, ImageRecord, Limits, Ticket};

use super::agent::NodeContext;
use super::back_off::BackOff;
use super::killing::HOOK_TICKET;
use super::qos;
use super::reset;
use super::shared::Shared;
use super::worker::{Doing, ImageBackOff, Job, Worker};

use EventType::{Normal, Warning};

impl Worker {
    /// Begins to start a container, unless it is in back-off.
    pub fn start(&mut self, index: u16, shared: &mut Shared, ctx: &mut dyn NodeContext) {
        let now = ctx.now();
        let timings = &shared.settings.timings;
        if let Some(ended) = self.last_end(index) {
            let image = self.spec(index).image.clone();
            let entry = self.record(index).crashes(&image);
            if let Some(until) = BackOff::until(entry, ended, now, timings) {
                self.in_back_off(index, until, entry.map_or(SimDuration::ZERO, BackOff::delay), shared);
                return;
            }
            self.record_mut(index).past_mut().crashes = Some((image, BackOff::next(entry, ended, now, timings)));
        }
        self.ensure_image(index, shared, ctx);
    }

    /// When the newest instance that has ended did so; the one that runs does not count.
    fn last_end(&self, index: u16) -> Option<SimTime> {
        let record = self.record(index);
        let newest = record.instance.exit().map(|exit| exit.at);
        newest.or_else(|| record.last().map(|last| last.1))
    }

    fn in_back_off(&mut self, index: u16, until: SimTime, delay: SimDuration, shared: &mut Shared) {
        let name = self.spec(index).name.clone();
        let pod = self.full_name();
        let message = format!("Back-off restarting failed container {name} in pod {pod}");
        shared.record(self, Some(index), Warning, "BackOff", message);
        let why = format!("back-off {} restarting failed container={name} pod={pod}", go_duration(delay));
        self.trouble(index, "CrashLoopBackOff", why, Some(until));
    }

    /// `name_namespace(uid)`, as the kubelet's messages name a pod.
    pub fn full_name(&self) -> String {
        let meta = &self.pod.meta;
        format!("{}_{}({})", meta.name, meta.namespace, meta.uid)
    }

    /// The start of a container failed: remembers why, and gives up what depends on it.
    fn trouble(&mut self, index: u16, reason: &'static str, message: String, until: Option<SimTime>) {
        let role = self.spec(index).role;
        self.record_mut(index).past_mut().trouble = Some((Name::of(reason), Name::from(message)));
        if let Job::Syncing(job) = &mut self.job {
            job.failed = true;
            job.back_off_until = job.back_off_until.into_iter().chain(until).min();
            if role == ContainerRole::Init {
                job.steps.clear();
            }
            job.doing = Doing::Nothing;
        }
    }

    /// A start failed after the image was dealt with: the event says why.
    pub fn failed(&mut self, index: u16, reason: &'static str, message: String, shared: &mut Shared) {
        shared.record(self, Some(index), Warning, "Failed", format!("Error: {message}"));
        self.trouble(index, reason, message, None);
    }

    fn ensure_image(&mut self, index: u16, shared: &mut Shared, ctx: &mut dyn NodeContext) {
        let (image, policy) = (self.spec(index).image.clone(), self.spec(index).pull_policy);
        if !is_image_name(&image) {
            let message = format!(
                "Failed to apply default image tag {image:?}: couldn't parse image name {image:?}: invalid reference format"
            );
            shared.record(self, Some(index), Warning, "InspectFailed", message.clone());
            shared.record(self, Some(index), Warning, "Failed", "Error: InvalidImageName".to_owned());
            self.trouble(index, "InvalidImageName", message, None);
            return;
        }
        let present = shared.settings.profile.images_present || shared.puller.image(&image).is_some();
        if present && policy != PullPolicy::Always {
            let message =
                format!("Container image {image:?} already present on machine and can be accessed by the pod");
            shared.record(self, Some(index), Normal, "Pulled", message);
            self.create(index, shared, ctx);
            return;
        }
        if policy == PullPolicy::Never {
            let message = format!("Container image {image:?} is not present with pull policy of Never");
            shared.record(self, Some(index), Warning, "ErrImageNeverPull", message.clone());
            shared.record(self, Some(index), Warning, "Failed", "Error: ErrImageNeverPull".to_owned());
            self.trouble(index, "ErrImageNeverPull", message, None);
            return;
        }
        let entry = self.pulls(&image);
        let held_back =
            BackOff::until_since_update(entry.map(|entry| entry.back_off), ctx.now(), &shared.settings.timings);
        if held_back.is_some() {
            let message = format!("Back-off pulling image {image:?}");
            let error = entry.map_or(String::new(), |entry| format!("{message}: ErrImagePull: {}", entry.error));
            shared.record(self, Some(index), Normal, "BackOff", message);
            shared.record(self, Some(index), Warning, "Failed", "Error: ImagePullBackOff".to_owned());
            self.trouble(index, "ImagePullBackOff", error, None);
            return;
        }
        shared.record(self, Some(index), Normal, "Pulling", format!("Pulling image {image:?}"));
        self.doing(Doing::Pulling { index, since: ctx.now() });
        shared.puller.pull(Ticket { pod: self.number, index, number: 0 }, image, ctx);
    }

    /// A pull ended; when its turn had come is what the puller knows.
    pub fn pulled(
        &mut self,
        ticket: Ticket,
        result: Result<ImageRecord, String>,
        shared: &mut Shared,
        ctx: &mut dyn NodeContext,
    ) {
        let began = shared.puller.ended(ticket, ctx);
        let Job::Syncing(job) = &self.job else { return };
        let Doing::Pulling { index, since } = job.doing else { return };
        if index != ticket.index {
            return;
        }
        let now = ctx.now();
        match result {
            Ok(image) => {
                let took = go_duration(truncate(now.since(began.unwrap_or(since))));
                let waited = go_duration(truncate(now.since(since)));
                let message = format!(
                    "Successfully pulled image {:?} in {took} ({waited} including waiting). Image size: {} bytes.",
                    image.name, image.size
                );
                shared.puller.add(image, now);
                let image = self.spec(index).image.clone();
                self.forget_pulls(&image);
                shared.record(self, Some(index), Normal, "Pulled", message);
                self.create(index, shared, ctx);
            }
            Err(error) => self.pull_failed(index, error, shared, now),
        }
        self.advance(shared, ctx);
    }

    fn pull_failed(&mut self, index: u16, error: String, shared: &mut Shared, now: SimTime) {
        let image = self.spec(index).image.clone();
        shared.record(self, Some(index), Warning, "Failed", format!("Failed to pull image {image:?}: {error}"));
        shared.record(self, Some(index), Warning, "Failed", "Error: ErrImagePull".to_owned());
        let entry = self.pulls(&image).map(|entry| entry.back_off);
        let back_off = BackOff::next(entry, now, now, &shared.settings.timings);
        self.forget_pulls(&image);
        self.record_mut(index).past_mut().pulls = Some(ImageBackOff { image, back_off, error: error.clone() });
        self.trouble(index, "ErrImagePull", error, None);
    }

    fn forget_pulls(&mut self, image: &str) {
        for past in self.containers.iter_mut().filter_map(|record| record.past.as_mut()) {
            past.pulls.take_if(|entry| entry.image.as_str() == image);
        }
    }

    /// Makes a container, once what its environment comes from has been read.
    fn create(&mut self, index: u16, shared: &mut Shared, ctx: &mut dyn NodeContext) {
        if !self.read_environment(index, shared, ctx) {
            self.create_now(index, shared, ctx);
        }
    }

    /// Makes a container, if its user may be what it is.
    pub fn create_now(&mut self, index: u16, shared: &mut Shared, ctx: &mut dyn NodeContext) {
        if let Some(wrong) = self.wrong_user(index, shared) {
            return self.failed(index, "CreateContainerConfigError", wrong, shared);
        }
        let attempt = self.next_attempt(index);
        let spec = self.spec(index);
        let config = ContainerConfig {
            name: spec.name.clone(),
            image: spec.image.clone(),
            limits: self.allocated().containers.get(usize::from(index)).map_or_else(Limits::default, |allocated| {
                Limits { milli_cpu: allocated.limits.milli_cpu, memory: allocated.limits.memory }
            }),
            oom_score_adjustment: qos::oom_score_adjustment(&self.pod, index, shared.settings.node.capacity.memory),
        };
        shared.puller.used(&config.image, ctx.now());
        let container = ContainerId { pod: self.number, index, attempt };
        self.remove_oldest(index, attempt, ctx);
        self.doing(Doing::Creating(container));
        ctx.act(Action::CreateContainer { container, config: Box::new(config) });
    }

    /// The number of the next instance: one more than the newest one that was seen, or than the API remembers.
    fn next_attempt(&self, index: u16) -> u32 {
        let status = self.status();
        let name = &self.spec(index).name;
        let known = status.containers.iter().chain(status.init_containers.iter()).find(|status| status.name == *name);
        // What was removed to restart all containers is counted already.
        let more = |status: &ContainerStatus| u32::from(!status.container_id.is_empty() && !reset::is_removed(status));
        let known = known.map_or(0, |status| status.restart_count.saturating_add(more(status)));
        self.record(index).attempts.max(known)
    }

    /// Of the instances that ended only the newest is kept (`cleanUpContainersInPod`).
    fn remove_oldest(&self, index: u16, attempt: u32, ctx: &mut dyn NodeContext) {
        if attempt >= 2 {
            let container = ContainerId { pod: self.number, index, attempt: attempt - 2 };
            ctx.act(Action::RemoveContainer { container });
        }
    }

    /// True if the pass waits for this container to be made or started.
    fn awaits(&self, container: ContainerId) -> bool {
        let Job::Syncing(job) = &self.job else { return false };
        matches!(job.doing, Doing::Creating(id) | Doing::Starting(id) if id == container)
    }

    /// A container was made.
    pub fn created(&mut self, container: ContainerId, shared: &mut Shared, ctx: &mut dyn NodeContext) {
        if !self.awaits(container) {
            return;
        }
        shared.record(self, Some(container.index), Normal, "Created", "Container created".to_owned());
        self.doing(Doing::Starting(container));
        ctx.act(Action::StartContainer { container });
    }

    /// A container could not be made.
    pub fn create_failed(
        &mut self,
        container: ContainerId,
        message: &str,
        shared: &mut Shared,
        ctx: &mut dyn NodeContext,
    ) {
        if self.awaits(container) {
            self.failed(container.index, "CreateContainerError", message.to_owned(), shared);
            self.advance(shared, ctx);
        }
    }

    /// A container runs.
    pub fn started(&mut self, container: ContainerId, shared: &mut Shared, ctx: &mut dyn NodeContext) {
        if !self.awaits(container) {
            return;
        }
        let index = container.index;
        shared.record(self, Some(index), Normal, "Started", "Container started".to_owned());
        if let Some(handler) = self.spec(index).post_start.clone() {
            self.doing(Doing::Hook(container));
            let ticket = Ticket { pod: self.number, index, number: HOOK_TICKET };
            ctx.act(Action::RunHook { ticket, container, kind: HookKind::PostStart, handler });
            return;
        }
        self.start_done(index, shared, ctx);
    }

    fn start_done(&mut self, index: u16, shared: &mut Shared, ctx: &mut dyn NodeContext) {
        if let Some(past) = &mut self.record_mut(index).past {
            past.trouble = None;
        }
        self.doing(Doing::Nothing);
        self.advance(shared, ctx);
    }

    /// A container could not be started.
    pub fn start_failed(
        &mut self,
        container: ContainerId,
        message: &str,
        shared: &mut Shared,
        ctx: &mut dyn NodeContext,
    ) {
        if self.awaits(container) {
            self.failed(container.index, "RunContainerError", message.to_owned(), shared);
            self.advance(shared, ctx);
        }
    }

    /// A postStart or preStop hook ended.
    pub fn hook_done(
        &mut self,
        ticket: Ticket,
        outcome: Result<(), String>,
        shared: &mut Shared,
        ctx: &mut dyn NodeContext,
    ) {
        if let Job::Syncing(job) = &self.job
            && let Doing::Hook(container) = job.doing
            && container.index == ticket.index
        {
            self.post_start_done(container, outcome, shared, ctx);
            return;
        }
        let failed = outcome.is_err();
        self.on_killing(shared, ctx, |killing, worker, shared, ctx| {
            killing.hook_done(ticket.index, failed, worker, shared, ctx);
        });
    }

    /// A container whose postStart hook failed is stopped, and started again as one that crashed.
    fn post_start_done(
        &mut self,
        container: ContainerId,
        outcome: Result<(), String>,
        shared: &mut Shared,
        ctx: &mut dyn NodeContext,
    ) {
        let index = container.index;
        let Err(error) = outcome else { return self.start_done(index, shared, ctx) };
        let error = self.hook_failure(index, &error);
        shared.record(self, Some(index), Warning, "FailedPostStartHook", "PostStartHook failed".to_owned());
        self.record_mut(index).past_mut().trouble = Some((Name::of("PostStartHookError"), Name::from(error)));
        if let Job::Syncing(job) = &mut self.job {
            job.failed = true;
        }
        let killing = self.kill_instance(container, "FailedPostStartHook", shared, ctx);
        self.doing(Doing::KillingAfterHook(Box::new(killing)));
    }
}

impl Worker {
    /// What is said of a container whose postStart hook failed (lifecycle, `handlerRunner.Run`).
    fn hook_failure(&self, index: u16, error: &str) -> String {
        let (spec, pod) = (self.spec(index), self.full_name());
        let container = spec.name.as_str();
        match &spec.post_start {
            Some(Handler::Exec(command)) => {
                let command = command.join(" ");
                format!(
                    "Exec lifecycle hook ([{command}]) for Container {container:?} in Pod {pod:?} failed - error: command '{command}' exited with 1: {error}, message: {error:?}"
                )
            }
            Some(Handler::HttpGet { path, .. }) => format!(
                "HTTP lifecycle hook ({path}) for Container {container:?} in Pod {pod:?} failed - error: {error}"
            ),
            Some(Handler::Sleep { seconds }) => format!(
                "Sleep lifecycle hook ({seconds}) for Container {container:?} in Pod {pod:?} failed - error: {error}"
            ),
            _ => error.to_owned(),
        }
    }
}

/// True if a text can name an image: a repository in lower case, with a tag or digest at most.
fn is_image_name(image: &str) -> bool {
    let (name, digest) = image.split_once('@').map_or((image, None), |(name, digest)| (name, Some(digest)));
    let (repository, tag) = match name.rsplit_once(':') {
        Some((repository, tag)) if !tag.contains('/') => (repository, Some(tag)),
        _ => (name, None),
    };
    let word = |text: &str, more: &str| {
        !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || more.as_bytes().contains(&byte))
    };
    let (host, path) = repository.split_once('/').map_or((None, repository), |(host, path)| (Some(host), path));
    host.is_none_or(|host| word(host, "._-:[]"))
        && word(path, "._-/")
        && !path.bytes().any(|byte| byte.is_ascii_uppercase())
        && tag.is_none_or(|tag| word(tag, "._-"))
        && digest.is_none_or(|digest| word(digest, ":+._-"))
}

/// Cut to whole milliseconds.
fn truncate(length: SimDuration) -> SimDuration {
    SimDuration::from_millis(length.as_millis())
}

/// As Go prints a duration: `3.15s`, `850ms`, `1m20s`, `5m0s`.
pub fn go_duration(length: SimDuration) -> String {
    let seconds = length.as_secs();
    if seconds < 60 {
        return match length {
            SimDuration::ZERO => "0s".to_owned(),
            _ => length.to_string(),
        };
    }
    let fraction = length.saturating_sub(SimDuration::from_secs(seconds - seconds % 60));
    let rest = if fraction < SimDuration::from_secs(1) && fraction != SimDuration::ZERO {
        format!("0.{}", format!("{:09}", fraction.as_nanos()).trim_end_matches('0')) + "s"
    } else {
        go_duration(fraction)
    };
    let (hours, minutes) = (seconds / 3600, seconds / 60 % 60);
    if hours > 0 { format!("{hours}h{minutes}m{rest}") } else { format!("{minutes}m{rest}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_printed_as_go_does() {
        let shown = [0, 850, 3_150, 10_000, 80_000, 300_000, 61_500, 60_250];
        let shown = shown.map(|ms| go_duration(SimDuration::from_millis(ms)));
        assert_eq!(shown, ["0s", "850ms", "3.15s", "10s", "1m20s", "5m0s", "1m1.5s", "1m0.25s"]);
    }

    #[test]
    fn image_names_have_lower_case_paths() {
        for name in
            ["nginx", "nginx:1.25", "localhost:5999/nosuch:1", "Registry.example/app@sha256:00ff", "a/b_c/d-e:V1"]
        {
            assert!(is_image_name(name), "{name}");
        }
        for name in ["", "a b", "registry/App", "nginx:", "nginx@", "a/b:c:d/"] {
            assert!(!is_image_name(name), "{name}");
        }
    }
}
