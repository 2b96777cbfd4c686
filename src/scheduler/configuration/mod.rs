//! A scheduler's configuration as its users write it: a `KubeSchedulerConfiguration` file (kube-scheduler, `apis/config`).
//!
//! - this file: [`Configuration`], read, defaulted and checked
//! - `file`: what the file says
//! - `plugins`: which plugins are asked where
//! - `validation`: what can be wrong with it
//!
//! Everything wrong is reported at once, each with its place in the file. Nothing here looks at a file system.

pub mod file;
pub mod plugins;
mod validation;

use serde_json::Value;

use self::file::{Extender, KubeSchedulerConfiguration, KubeSchedulerProfile, PluginSet, Plugins};
use super::arguments::Arguments;
use super::profile::{Handle, Profiles, WrongProfile};
use super::registry::Registry;
use crate::api::manifest::{self, Part, Problem};
use crate::api::name::Name;
use crate::engine::time::SimDuration;

/// The one version of the format.
pub const API_VERSION: &str = "kubescheduler.config.k8s.io/v1";
/// The kind of object that the format is.
const KIND: &str = "KubeSchedulerConfiguration";

/// What a scheduler is told, all defaults set.
#[derive(Clone, Debug)]
pub struct Configuration {
    /// After how many percent of the nodes have been found feasible the search ends; zero for a share that falls with the
    /// number of nodes.
    pub percentage_of_nodes_to_score: u32,
    /// How long a pod waits after its first failure.
    pub initial_back_off: SimDuration,
    /// How long a pod waits after many failures.
    pub longest_back_off: SimDuration,
    /// Requests a second in the long run, and at once, if the file says so; zero a second for no limit.
    pub limits: Option<(u32, u32)>,
    /// The profiles; at least one.
    pub profiles: Vec<ProfileConfiguration>,
}

/// What a profile is made of, all defaults set.
#[derive(Clone, Debug)]
pub struct ProfileConfiguration {
    /// The `schedulerName` of the pods that it is for.
    pub scheduler_name: Name,
    /// The percentage for this profile, if it has its own.
    pub percentage_of_nodes_to_score: Option<u32>,
    /// What is on and off at each point, the default plugins among it.
    pub plugins: Plugins,
    /// The arguments of plugins by name: first those that the file gives, in its order.
    pub arguments: Vec<(String, Arguments)>,
}

impl Default for Configuration {
    fn default() -> Self {
        Configuration {
            percentage_of_nodes_to_score: 0,
            initial_back_off: SimDuration::from_secs(1),
            longest_back_off: SimDuration::from_secs(10),
            limits: None,
            profiles: vec![ProfileConfiguration::default()],
        }
    }
}

/// The default profile.
impl Default for ProfileConfiguration {
    fn default() -> Self {
        let plugins = Plugins::standard();
        let arguments = default_arguments(&plugins, &[]);
        let scheduler_name = Name::of("default-scheduler");
        ProfileConfiguration { scheduler_name, percentage_of_nodes_to_score: None, plugins, arguments }
    }
}

impl ProfileConfiguration {
    /// The arguments of a plugin.
    pub fn arguments_of(&self, plugin: &str) -> &Arguments {
        self.arguments.iter().find(|(name, _)| name == plugin).map_or(&Arguments::None, |(_, arguments)| arguments)
    }
}

impl Configuration {
    /// Reads a configuration from a text. `file` is what the user calls it.
    ///
    /// # Errors
    ///
    /// Everything that is wrong with it, in the words of the real scheduler, each with its place.
    pub fn read(file: &str, text: &str, registry: &Registry) -> Result<Configuration, Vec<Problem>> {
        let mut documents = manifest::read(file, text)?;
        match documents.len() {
            1 => Configuration::of_part(&documents.remove(0).part, registry),
            count => {
                let whole = manifest::Source::new(file, text);
                let message = format!("the file holds {count} objects");
                let expected = Some(format!("expected one object: apiVersion: {API_VERSION}, kind: {KIND}"));
                Err(vec![whole.problem(crate::api::yaml::Mark::default(), message, expected)])
            }
        }
    }

    /// Reads a configuration that stands in another file.
    ///
    /// # Errors
    ///
    /// As [`Configuration::read`].
    pub fn of_part(part: &Part, registry: &Registry) -> Result<Configuration, Vec<Problem>> {
        check_type(part)?;
        let file: KubeSchedulerConfiguration = part.decode()?;
        let mut problems = Vec::new();
        let mut profiles = Vec::new();
        let given =
            if file.profiles.is_empty() { vec![KubeSchedulerProfile::default()] } else { file.profiles.clone() };
        for (index, profile) in given.iter().enumerate() {
            match complete(profile, index, given.len(), part) {
                Ok(profile) => profiles.push(profile),
                Err(wrong) => problems.extend(wrong),
            }
        }
        if problems.is_empty() {
            problems = part.refused(&validation::validate(&file, &profiles));
        }
        if problems.is_empty() {
            problems = not_simulated(&file.extenders, part);
            problems.extend(ignore_resources(&file.extenders, &mut profiles, part));
        }
        let configuration = Configuration {
            percentage_of_nodes_to_score: file.percentage_of_nodes_to_score.unwrap_or(0).max(0).unsigned_abs(),
            initial_back_off: seconds(file.pod_initial_backoff_seconds.unwrap_or(1)),
            longest_back_off: seconds(file.pod_max_backoff_seconds.unwrap_or(10)),
            limits: limits(&file),
            profiles,
        };
        if problems.is_empty()
            && let Err(wrong) = Profiles::new(&configuration.profiles, registry, &Handle::default())
        {
            problems.push(misbuilt(&wrong, &file, part));
        }
        if problems.is_empty() { Ok(configuration) } else { Err(problems) }
    }
}

/// Whether a part is what it must be, in the words of apimachinery's decoder.
fn check_type(part: &Part) -> Result<(), Vec<Problem>> {
    let text = |field: &str| part.value.get(field).and_then(Value::as_str).unwrap_or_default();
    let (version, kind) = (text("apiVersion"), text("kind"));
    let expected = |field: &str, value: &str| Some(format!("expected {field}: {value}"));
    let scheme = "in scheme \"k8s.io/kubernetes/pkg/scheduler/apis/config/scheme/scheme.go:29\"";
    let problem = if !part.value.is_object() {
        part.problem("", "this is no object", Some(format!("expected kind: {KIND}")))
    } else if kind.is_empty() || version.is_empty() {
        let (word, field, value) =
            if kind.is_empty() { ("Kind", "kind", KIND) } else { ("apiVersion", "apiVersion", API_VERSION) };
        part.problem(field, format!("Object '{word}' is missing in '{}'", part.value), expected(field, value))
    } else if version != API_VERSION {
        let message = format!("no kind \"{kind}\" is registered for version \"{version}\" {scheme}");
        part.problem("apiVersion", message, expected("apiVersion", API_VERSION))
    } else if Arguments::are_known(kind.strip_suffix("Args").unwrap_or_default()) {
        let message = format!("couldn't decode as KubeSchedulerConfiguration, got {version}, Kind={kind}: ");
        part.problem("kind", message, expected("kind", KIND))
    } else if kind != KIND {
        let message = format!("no kind \"{kind}\" is registered for version \"{version}\" {scheme}");
        part.problem("kind", message, expected("kind", KIND))
    } else {
        return Ok(());
    };
    Err(vec![problem])
}

/// A profile with all defaults. Only a profile that is alone has a default name.
fn complete(
    profile: &KubeSchedulerProfile,
    index: usize,
    count: usize,
    part: &Part,
) -> Result<ProfileConfiguration, Vec<Problem>> {
    let default_name = if count == 1 { "default-scheduler" } else { "" };
    let plugins = profile.plugins.as_ref().map_or_else(Plugins::standard, Plugins::merged);
    let mut problems = Vec::new();
    let mut arguments = Vec::new();
    for (position, config) in profile.plugin_config.iter().enumerate() {
        match read_arguments(&config.name, &config.args, (index, position), part) {
            Ok(found) => arguments.push((config.name.clone(), found)),
            Err(wrong) => problems.extend(wrong),
        }
    }
    if !problems.is_empty() {
        return Err(problems);
    }
    arguments.extend(default_arguments(&plugins, &arguments));
    Ok(ProfileConfiguration {
        scheduler_name: profile.scheduler_name.as_deref().unwrap_or(default_name).into(),
        percentage_of_nodes_to_score: profile.percentage_of_nodes_to_score.map(|share| share.max(0).unsigned_abs()),
        plugins,
        arguments,
    })
}

/// The arguments of plugins that are needed and for which none are given.
fn default_arguments(plugins: &Plugins, given: &[(String, Arguments)]) -> Vec<(String, Arguments)> {
    let is_given = |name: &str| given.iter().any(|(other, _)| other == name);
    let missing = plugins.needed().into_iter().filter(|name| !is_given(name));
    missing.map(|name| (name.to_owned(), Arguments::of_plugin(name))).collect()
}

/// The arguments of a plugin, which may say of what version and kind they are.
fn read_arguments(
    plugin: &str,
    value: &Value,
    (profile, position): (usize, usize),
    part: &Part,
) -> Result<Arguments, Vec<Problem>> {
    let field = format!("profiles[{profile}].pluginConfig[{position}].args");
    let mut value = value.clone();
    let place = format!("decoding .profiles[{profile}].pluginConfig[{position}]:");
    let kind = format!("{plugin}Args");
    if Arguments::are_known(plugin)
        && let Value::Object(entries) = &mut value
    {
        let given: Vec<Option<Value>> = ["apiVersion", "kind"].map(|name| entries.remove(name)).into();
        let text = |given: &Option<Value>| given.as_ref().and_then(Value::as_str).unwrap_or_default().to_owned();
        let (version, own_kind) = (text(&given[0]), text(&given[1]));
        if !own_kind.is_empty() && own_kind != kind {
            let group = "kubescheduler.config.k8s.io";
            let message =
                format!("{place} args for plugin {plugin} were not of type {kind}.{group}, got {own_kind}.{group}");
            return Err(vec![part.problem(&format!("{field}.kind"), message, None)]);
        }
        if !version.is_empty() && version != API_VERSION {
            let scheme = "in scheme \"k8s.io/kubernetes/pkg/scheduler/apis/config/scheme/scheme.go:29\"";
            let message = format!(
                "{place} decoding args for plugin {plugin}: no kind \"{kind}\" is registered for version \"{version}\" {scheme}"
            );
            return Err(vec![part.problem(&format!("{field}.apiVersion"), message, None)]);
        }
    }
    let inside = part.inside(&field, value);
    Arguments::read(plugin, &inside).map_err(|problems| {
        let told = |problem: Problem| {
            let strict =
                if problem.message.starts_with("strict decoding error: ") { "strict decoding error: " } else { "" };
            let message = format!("{strict}{place} decoding args for plugin {plugin}: {}", problem.message);
            Problem { message, ..problem }
        };
        problems.into_iter().map(told).collect()
    })
}

fn seconds(seconds: i64) -> SimDuration {
    SimDuration::from_secs(seconds.max(0).unsigned_abs().min(1 << 32))
}

/// The limits of the client, if the file gives any; what is zero has its default, and a negative rate is none.
fn limits(file: &KubeSchedulerConfiguration) -> Option<(u32, u32)> {
    let (qps, burst) = (file.client_connection.qps, file.client_connection.burst.max(0).unsigned_abs());
    if qps == 0.0 && burst == 0 {
        return None;
    }
    let per_second = if qps == 0.0 { 50 } else { qps.clamp(0.0, 1e9).round() as u32 };
    Some((per_second, if burst == 0 { 100 } else { burst }))
}

/// Webhooks cannot be asked. One that only gives scores, or whose failures are ignored, is as one that does not answer, which the
/// real scheduler passes over.
fn not_simulated(extenders: &[Extender], part: &Part) -> Vec<Problem> {
    let decides = |extender: &Extender| {
        [&extender.filter_verb, &extender.preempt_verb, &extender.bind_verb].iter().any(|verb| !verb.is_empty())
    };
    let needed = extenders.iter().enumerate().filter(|(_, extender)| !extender.ignorable && decides(extender));
    needed
        .map(|(position, _)| {
            let expected = "expected no extender but such as are ignorable or only prioritize".to_owned();
            part.problem(&format!("extenders[{position}]"), "extenders are not simulated", Some(expected))
        })
        .collect()
}

/// Resources that the scheduler is to leave to extenders take the place of those that NodeResourcesFit is told to ignore
/// (kube-scheduler, `buildExtenders`).
fn ignore_resources(extenders: &[Extender], profiles: &mut [ProfileConfiguration], part: &Part) -> Option<Problem> {
    let managed = extenders.iter().flat_map(|extender| &extender.managed_resources);
    let ignored: Vec<String> =
        managed.filter(|resource| resource.ignored_by_scheduler).map(|resource| resource.name.clone()).collect();
    if ignored.is_empty() {
        return None;
    }
    for (index, profile) in profiles.iter_mut().enumerate() {
        let fit = profile.arguments.iter_mut().find_map(|(_, arguments)| match arguments {
            Arguments::NodeResourcesFit(fit) => Some(fit),
            _ => None,
        });
        match fit {
            Some(fit) => fit.ignored_resources = ignored.clone(),
            None => {
                let message = "couldn't build extenders: can't find NodeResourcesFitArgs in plugin config";
                return Some(part.problem(&format!("profiles[{index}]"), message, None));
            }
        }
    }
    None
}

/// A profile that cannot be made, where the file says what is wrong.
fn misbuilt(wrong: &WrongProfile, file: &KubeSchedulerConfiguration, part: &Part) -> Problem {
    let plugins = file.profiles.get(wrong.profile).and_then(|profile| profile.plugins.as_ref());
    let profile = format!("profiles[{}]", wrong.profile);
    let find = |field: &str, set: &PluginSet| {
        let position = set.enabled.iter().rposition(|plugin| Some(&plugin.name) == wrong.plugin.as_ref())?;
        Some(format!("{profile}.plugins.{field}.enabled[{position}].name"))
    };
    let configured = file.profiles.get(wrong.profile).and_then(|profile| {
        let position = profile.plugin_config.iter().position(|config| Some(&config.name) == wrong.plugin.as_ref())?;
        let field = wrong.argument.as_deref()?;
        Some(format!("profiles[{}].pluginConfig[{position}].args.{field}", wrong.profile))
    });
    let place = configured.or_else(|| {
        let plugins = plugins?;
        let points = plugins.extension_points();
        let mut of_points = points.iter().filter(|point| wrong.point.is_none_or(|field| field == point.field));
        let here = of_points.find_map(|point| find(point.field, point.set));
        here.or_else(|| find("multiPoint", &plugins.multi_point))
    });
    let message = format!("initializing profiles: {}", wrong.message);
    part.problem(&place.unwrap_or(profile), message, None)
}

#[cfg(test)]
mod tests;
