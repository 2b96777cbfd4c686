//! What an image does once it runs: a model written in a scenario, with a default for images that none names.
//!
//! Plain data. Everything is drawn when a container starts, from a stream of its own.

use std::collections::BTreeMap;
use std::rc::Rc;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::size::Size;
use super::span::{Span, Spread};
use super::user::ImageUser;
use crate::apiserver::metrics::{ContainerUse, Uses};

/// How the containers of an image behave.
///
/// The default is a well-behaved server: 50 MiB in three layers of its own, created in about 15 ms and started in about
/// 70 ms (containerd 1.7 measured idle), answering every probe as soon as it runs, running for ever, and ending with
/// code 0 about 100 ms after SIGTERM.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct ImageModel {
    /// The layers of which it consists; layers of one name are fetched once for all images. None for three layers of
    /// its own that share `size` as 70, 25 and 5 percent.
    pub layers: Vec<Layer>,
    /// The size of all layers together where `layers` does not say it.
    pub size: Size,
    /// Why a pull fails, if it does.
    pub pull: PullModel,
    /// How long it takes to make a container.
    pub create: Spread,
    /// How long it takes to start a container.
    pub start: Spread,
    /// The runtime's message if a container cannot be started at all (no such binary).
    pub start_error: Option<String>,
    /// The user as whom its program runs, by number or by name; root (0) if not given. Containers may say otherwise (`runAsUser`), or
    /// that it must not be root (`runAsNonRoot`), which a kubelet can only see of a number.
    pub user: ImageUser,
    /// What readiness probes find.
    pub readiness: Health,
    /// What liveness probes find.
    pub liveness: Health,
    /// What startup probes find.
    pub startup: Health,
    /// What its gRPC server says to health checks besides; none for a server that answers about every service as its health is.
    pub grpc: Option<GrpcModel>,
    /// When and how it ends by itself; none if it runs for ever.
    pub exit: Option<ExitModel>,
    /// By what chance an instance crashes before that.
    pub crash: Option<CrashModel>,
    /// How it takes SIGTERM.
    pub stop: StopModel,
    /// How its postStart hook does.
    pub post_start: HookModel,
    /// How its preStop hook does.
    pub pre_stop: HookModel,
    /// The CPU that an instance uses from a time after its start on; in thousandths of a core.
    pub cpu: Vec<Usage<u64>>,
    /// The memory that an instance uses from a time after its start on. Above the container's limit it is killed (OOMKilled).
    pub memory: Vec<Usage<Size>>,
    /// The disk that an instance uses from a time after its start on, for its writable layer and its logs. It stays used until
    /// the container is removed.
    pub disk: Vec<Usage<Size>>,
    /// The inodes (files) of an instance from a time after its start on, in its writable layer and its logs. They stay used until
    /// the container is removed.
    pub inodes: Vec<Usage<u64>>,
    /// The processes of an instance from a time after its start on.
    pub processes: Vec<Usage<u64>>,
    /// What an instance has written into emptyDir volumes, by the volume's name, from a time after its start on.
    pub volumes: BTreeMap<String, Vec<Usage<Size>>>,
    /// What an instance uses besides for each unit of load that its pod bears (the scenario's `signals` of pods).
    pub load: LoadModel,
}

/// What a unit of load costs.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct LoadModel {
    /// CPU in thousandths of a core.
    pub cpu: u64,
    /// Memory.
    pub memory: Size,
}

/// A layer of an image.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Layer {
    /// Its name; layers of one name are the same in all images.
    pub name: String,
    /// Its size.
    pub size: Size,
}

/// How pulls of an image go.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct PullModel {
    /// The registry's message if pulls fail; the runtime puts its own words around it.
    pub error: Option<String>,
    /// How many pulls by one kubelet fail before one succeeds; all if not given.
    pub failures: Option<u32>,
    /// How long the registry takes before the first byte, or to fail.
    pub latency: Spread,
}

/// What probes of one kind find over the life of an instance: passing or not at first, then turning at each time.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Health {
    /// Passing right after the start.
    pub passing: bool,
    /// When that turns to the opposite, and back, ...: each time counted from the start. Sorted when drawn.
    pub turns: Vec<Spread>,
    /// What a failing probe looks like.
    pub failure: ProbeFailure,
    /// What it looks like the first time that probes fail, the second time, ...; the last one counts for all that follow.
    /// As `failure` says if not given.
    pub failures: Vec<ProbeFailure>,
    /// How long an answer takes.
    pub latency: Spread,
}

/// The health service of a gRPC server.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct GrpcModel {
    /// It implements the health protocol (grpc.health.v1.Health); probes of one that does not fail.
    pub implemented: bool,
    /// The services that it knows besides the empty name, which stands for the whole server; probes of another one fail. All if
    /// not given.
    pub services: Option<Vec<String>>,
}

/// What a failing probe looks like.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub enum ProbeFailure {
    /// Nothing listens: the connection is refused; a command fails without output. A gRPC probe tries again until its timeout.
    #[default]
    Refused,
    /// HTTP answers with this status; a command fails without output; gRPC answers `NOT_SERVING`.
    Status(u16),
    /// A command fails with this output; gRPC answers `NOT_SERVING`.
    Output(String),
    /// gRPC answers with this status (`NOT_SERVING`, `UNKNOWN`, `SERVICE_UNKNOWN`).
    Grpc(String),
    /// No answer comes before the timeout.
    Hangs,
}

/// How an instance ends by itself.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ExitModel {
    /// How long after its start.
    pub after: Spread,
    /// The exit code of the first instance, the second, ...; the last one counts for all that follow.
    #[serde(default = "zero_code")]
    pub codes: Vec<i32>,
    /// Killed by the kernel for want of memory: with code 137. With another code than 0 given, the kernel kills a child only, and the
    /// instance ends with that code; the reason is the same.
    #[serde(default)]
    pub out_of_memory: bool,
    /// It ends when its work is done: `after` counts the time in which it gets the CPU that it uses, and where a limit holds it
    /// back the work takes longer.
    #[serde(default)]
    pub cpu_bound: bool,
}

fn zero_code() -> Vec<i32> {
    vec![0]
}

/// By what chance an instance crashes.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct CrashModel {
    /// So many instances crash ...
    pub out_of: u64,
    /// ... out of so many.
    #[serde(default = "one")]
    pub chances: u64,
    /// How long after the start.
    pub after: Spread,
    /// The exit code.
    #[serde(default = "one_code")]
    pub code: i32,
}

fn one() -> u64 {
    1
}

fn one_code() -> i32 {
    1
}

/// How an instance takes SIGTERM.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct StopModel {
    /// It does not react and must be killed (as a shell does that is process 1 without a trap).
    pub ignores_term: bool,
    /// How long it takes to end.
    pub takes: Spread,
    /// The exit code it ends with.
    pub code: i32,
}

/// How a lifecycle hook does.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct HookModel {
    /// How long it runs; a `sleep` hook runs as long as it says.
    pub takes: Spread,
    /// It fails with this message.
    pub error: Option<String>,
}

/// An amount that is used from a time on.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Usage<T> {
    /// From how long after the start.
    pub from: Span,
    /// How much.
    pub amount: T,
}

impl Default for ImageModel {
    fn default() -> Self {
        ImageModel {
            layers: Vec::new(),
            size: Size(50 << 20),
            pull: PullModel::default(),
            create: Spread::log_normal_millis(15, 60),
            start: Spread::log_normal_millis(70, 200),
            start_error: None,
            user: ImageUser::default(),
            readiness: Health::default(),
            liveness: Health::default(),
            startup: Health::default(),
            grpc: None,
            exit: None,
            crash: None,
            stop: StopModel::default(),
            post_start: HookModel::default(),
            pre_stop: HookModel::default(),
            cpu: Vec::new(),
            memory: Vec::new(),
            disk: Vec::new(),
            inodes: Vec::new(),
            processes: Vec::new(),
            volumes: BTreeMap::new(),
            load: LoadModel::default(),
        }
    }
}

impl ImageModel {
    /// True if an instance uses something of its node that the node can run out of.
    pub fn uses_node(&self) -> bool {
        let disk = !(self.disk.is_empty() && self.inodes.is_empty() && self.volumes.is_empty());
        disk || !(self.memory.is_empty() && self.processes.is_empty()) || self.load.memory.0 > 0
    }
}

impl Default for GrpcModel {
    fn default() -> Self {
        GrpcModel { implemented: true, services: None }
    }
}

impl Default for PullModel {
    fn default() -> Self {
        PullModel { error: None, failures: None, latency: Spread::log_normal_millis(300, 1200) }
    }
}

impl Default for Health {
    fn default() -> Self {
        Health {
            passing: true,
            turns: Vec::new(),
            failure: ProbeFailure::Refused,
            failures: Vec::new(),
            latency: Spread::log_normal_millis(2, 20),
        }
    }
}

impl Default for StopModel {
    fn default() -> Self {
        StopModel { ignores_term: false, takes: Spread::log_normal_millis(100, 300), code: 0 }
    }
}

impl Default for HookModel {
    fn default() -> Self {
        HookModel { takes: Spread::log_normal_millis(50, 200), error: None }
    }
}

impl Health {
    /// Never passing.
    pub fn never() -> Self {
        Health { passing: false, ..Health::default() }
    }

    /// Passing from a time after the start on.
    pub fn after(time: Spread) -> Self {
        Health { passing: false, turns: vec![time], ..Health::default() }
    }
}

/// The models of a scenario, each for the images whose names match a pattern; the first that matches counts.
#[derive(Clone, Debug, Default)]
pub struct ImageModels {
    models: Vec<Matching>,
    default: Rc<ImageModel>,
}

/// A model and what it is for.
#[derive(Clone, Debug)]
struct Matching {
    image: String,
    /// A pattern of `pod/container`; none if the model is for all containers of the image.
    container: Option<String>,
    model: Rc<ImageModel>,
}

impl ImageModels {
    /// Models by pattern, in the order in which they are tried. A `*` stands for any text; a pattern without tag
    /// matches every tag.
    pub fn new(models: Vec<(String, ImageModel)>) -> Self {
        let mut all = ImageModels::default();
        models.into_iter().for_each(|(pattern, model)| all.add(pattern, None, model));
        all
    }

    /// Adds a model, tried after those that are there. With `container`, a pattern of `pod/container`, it is only for
    /// the containers that are called so: what is a script in a real manifest is a model here, also where one image runs all scripts.
    pub fn add(&mut self, image: String, container: Option<String>, model: ImageModel) {
        self.models.push(Matching { image, container, model: model.into() });
    }

    /// These models, with another one for images that no pattern matches.
    pub fn with_default(mut self, default: ImageModel) -> Self {
        self.default = default.into();
        self
    }

    /// The model of an image, for what concerns the image and no single container: its size, its pull.
    pub fn of(&self, image: &str) -> &Rc<ImageModel> {
        let named = self.models.iter().find(|one| one.container.is_none() && names(&one.image, image));
        named.map_or(&self.default, |one| &one.model)
    }

    /// The model of a container of an image.
    pub fn of_container(&self, image: &str, pod: &str, container: &str) -> &Rc<ImageModel> {
        let called = |pattern: &str| matches(pattern.as_bytes(), format!("{pod}/{container}").as_bytes());
        let named =
            self.models.iter().find(|one| names(&one.image, image) && one.container.as_deref().is_none_or(called));
        named.map_or(&self.default, |one| &one.model)
    }
}

impl Uses for ImageModels {
    fn of(&self, image: &str, pod: &str, container: &str) -> ContainerUse {
        let model = self.of_container(image, pod, container);
        ContainerUse {
            milli_cpu: model.cpu.iter().map(|usage| (usage.from.0, usage.amount)).collect(),
            memory: model.memory.iter().map(|usage| (usage.from.0, usage.amount.0)).collect(),
            milli_cpu_per_unit: model.load.cpu,
            memory_per_unit: model.load.memory.0,
        }
    }

    fn load_costs_memory(&self) -> bool {
        let named = self.models.iter().map(|one| &one.model);
        named.chain([&self.default]).any(|model| model.load.memory.0 > 0)
    }
}

/// True if a pattern names an image.
fn names(pattern: &str, image: &str) -> bool {
    let repository = image.split_once('@').map_or(image, |(name, _)| name);
    let untagged = match repository.rsplit_once(':') {
        Some((name, tag)) if !tag.contains('/') => name,
        _ => repository,
    };
    matches(pattern.as_bytes(), image.as_bytes()) || matches(pattern.as_bytes(), untagged.as_bytes())
}

/// Matches text with a pattern in which `*` stands for any bytes; linear but for the stars.
fn matches(pattern: &[u8], text: &[u8]) -> bool {
    let (mut at, mut from) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    while from < text.len() {
        if at < pattern.len() && pattern[at] == b'*' {
            star = Some((at + 1, from));
            at += 1;
        } else if at < pattern.len() && pattern[at] == text[from] {
            (at, from) = (at + 1, from + 1);
        } else if let Some((after, start)) = star {
            (at, from) = (after, start + 1);
            star = Some((after, start + 1));
        } else {
            return false;
        }
    }
    pattern[at..].iter().all(|&byte| byte == b'*')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_pattern_that_matches_counts() {
        let sized = |size| ImageModel { size: Size(size), ..ImageModel::default() };
        let patterns = [("fake/never-ready*", 1), ("registry:5000/app", 2), ("*", 3)];
        let models = ImageModels::new(patterns.map(|(pattern, size)| (pattern.to_owned(), sized(size))).to_vec());
        let found = |image: &str| models.of(image).size.0;
        assert_eq!(found("fake/never-ready:v2"), 1);
        assert_eq!(found("registry:5000/app:1.0"), 2);
        assert_eq!(found("registry:5000/application"), 3);
        assert_eq!(ImageModels::default().of("nginx"), &Rc::new(ImageModel::default()));
    }

    #[test]
    fn a_model_may_be_for_some_containers_of_an_image_only() {
        let sized = |size| ImageModel { size: Size(size), ..ImageModel::default() };
        let mut models = ImageModels::default();
        models.add("busybox".to_owned(), Some("crash*/c".to_owned()), sized(1));
        models.add("busybox".to_owned(), None, sized(2));
        assert_eq!(models.of_container("busybox:3", "crash5", "c").size.0, 1);
        assert_eq!(models.of_container("busybox:3", "crash5", "d").size.0, 2);
        assert_eq!(models.of("busybox:3").size.0, 2);
    }

    #[test]
    fn a_model_names_only_what_differs_from_the_default() {
        let model: ImageModel =
            serde_json::from_str(r#"{"size":"10Mi","exit":{"after":"2s","codes":[1,0]},"stop":{"ignoresTerm":true}}"#)
                .unwrap();
        assert_eq!(model.size, Size(10 << 20));
        assert_eq!(model.exit.unwrap().codes, [1, 0]);
        assert!(model.stop.ignores_term);
        assert_eq!(model.readiness, Health::default());
        assert!(serde_json::from_str::<ImageModel>(r#"{"sizes":1}"#).is_err());
        let user = |json: &str| serde_json::from_str::<ImageModel>(json).ok().map(|model| model.user);
        assert_eq!(user("{}"), Some(ImageUser::Id(0)), "root");
        assert_eq!(user(r#"{"user":1000}"#), Some(ImageUser::Id(1000)));
        assert_eq!(user(r#"{"user":"nginx:www"}"#), Some(ImageUser::Name("nginx".into())));
        assert_eq!(user(r#"{"user":"a b"}"#), None);
    }
}
