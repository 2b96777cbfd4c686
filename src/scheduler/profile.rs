//! Profiles: which plugins there are for the pods of a scheduler name, in which order they are asked at each point, and how
//! much their scores weigh (kube-scheduler, `framework/runtime/framework.go`, `profile/profile.go`).

use super::configuration::ProfileConfiguration;
use super::event::ClusterEvent;
use super::framework::{Plugin, PluginSet, Point};
use super::preemption::ongoing::Ongoing;
use super::registry::Registry;
use crate::api::name::Name;
use crate::api::pod::Pod;

/// The highest sum of weighted scores (`MaxTotalScore`).
const MAX_TOTAL_SCORE: i64 = i64::MAX;

/// What the plugins of one scheduler share.
#[derive(Clone, Default)]
pub struct Handle {
    /// Whose victims are being told to go.
    pub preempting: Ongoing,
}

/// The plugins for the pods of a scheduler name.
pub struct Profile {
    /// The `schedulerName` of the pods that it is for.
    pub scheduler_name: Name,
    /// `percentageOfNodesToScore`, if it differs from the scheduler's.
    pub percentage_of_nodes_to_score: Option<u32>,
    plugins: Vec<Row>,
    /// For each point the plugins that are asked there, by their places, in order.
    points: [Vec<usize>; Point::COUNT],
    /// For each cluster event the plugins that want to hear of it.
    interested: [PluginSet; ClusterEvent::COUNT],
    is_in_tree: bool,
}

/// A plugin of a profile, and how much its scores weigh.
pub struct Row {
    /// The plugin.
    pub plugin: Box<dyn Plugin>,
    /// The weight of its scores; means nothing for a plugin that does not score.
    pub weight: i64,
}

/// Why a profile cannot be made.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct WrongProfile {
    /// In the words of the real scheduler.
    pub message: String,
    /// Which of the profiles.
    pub profile: usize,
    /// The extension point, as configurations call it.
    pub point: Option<&'static str>,
    /// The plugin.
    pub plugin: Option<String>,
    /// The argument of the plugin.
    pub argument: Option<String>,
}

impl Profile {
    /// The default profile.
    pub fn standard() -> Self {
        Profile::new(Name::of("default-scheduler"), Profile::standard_rows())
    }

    /// The plugins of the default profile.
    pub fn standard_rows() -> Vec<Row> {
        let made = Profile::configured(&ProfileConfiguration::default(), &Registry::in_tree(), &Handle::default());
        made.unwrap_or_else(|wrong| panic!("the default profile cannot be made: {}", wrong.message)).plugins
    }

    /// A profile of plugins that are asked, in this order, at all points that they have.
    pub fn new(scheduler_name: Name, plugins: Vec<Row>) -> Self {
        let at = |point: Point| {
            let rows = plugins.iter().enumerate();
            rows.filter(|(_, row)| row.plugin.points().contains(&point)).map(|(place, _)| place).collect()
        };
        let points = Point::ALL.map(at);
        Profile::of(scheduler_name, None, plugins, points)
    }

    fn of(
        scheduler_name: Name,
        percentage_of_nodes_to_score: Option<u32>,
        plugins: Vec<Row>,
        points: [Vec<usize>; Point::COUNT],
    ) -> Self {
        assert!(plugins.len() <= PluginSet::CAPACITY, "a profile has at most 64 plugins");
        let interested = ClusterEvent::ALL.map(|event| {
            let rows = plugins.iter().enumerate();
            rows.filter(|(_, row)| row.plugin.events().contains(event)).map(|(place, _)| place).collect()
        });
        let is_in_tree = plugins.iter().all(|row| Registry::is_in_tree(row.plugin.name()));
        Profile { scheduler_name, percentage_of_nodes_to_score, plugins, points, interested, is_in_tree }
    }

    /// The profile that a configuration describes, its plugins made by a registry.
    ///
    /// # Errors
    ///
    /// As the real scheduler: a plugin that does not exist, that is not for a point, that is on twice, ...
    pub fn configured(
        configuration: &ProfileConfiguration,
        registry: &Registry,
        handle: &Handle,
    ) -> Result<Self, WrongProfile> {
        let plugins = instances(configuration, registry, handle)?;
        let points = points(configuration, &plugins)?;
        let scheduler = &configuration.scheduler_name;
        let sorts = points[Point::QueueSort as usize].len();
        if sorts != 1 {
            let message = "only one queue sort plugin required for profile with scheduler name";
            return Err(WrongProfile::because(format!("{message} \"{scheduler}\", but got {sorts}")));
        }
        if points[Point::Bind as usize].is_empty() {
            let message = "at least one bind plugin is needed for profile with scheduler name";
            return Err(WrongProfile::because(format!("{message} \"{scheduler}\"")));
        }
        let plugins = weighted(configuration, plugins)?;
        let percentage = configuration.percentage_of_nodes_to_score;
        Ok(Profile::of(scheduler.clone(), percentage, plugins, points))
    }

    /// True if all plugins are Kubernetes' own.
    pub fn is_in_tree(&self) -> bool {
        self.is_in_tree
    }

    /// The plugins that want to hear of an event.
    pub fn interested_in(&self, event: ClusterEvent) -> PluginSet {
        self.interested[event as usize]
    }

    /// A pod's rank in the active queue.
    pub fn rank(&self, pod: &Pod) -> i64 {
        self.at(Point::QueueSort).next().map_or(0, |(_, plugin, _)| plugin.rank(pod))
    }

    /// The first plugin that keeps a pod out of the queue. One that did so before is asked first.
    pub fn gate(&self, pod: &Pod, before: Option<usize>) -> Option<usize> {
        let closed = |place: &usize| !self.plugin(*place).pre_enqueue(pod).is_success();
        let all = self.at(Point::PreEnqueue).map(|(place, _, _)| place);
        before.into_iter().chain(all).find(closed)
    }

    /// The plugins that are asked at a point, in order, with their places in the profile and their weights.
    pub fn at(&self, point: Point) -> impl Iterator<Item = (usize, &dyn Plugin, i64)> {
        self.points[point as usize].iter().map(|place| {
            let row = &self.plugins[*place];
            (*place, row.plugin.as_ref(), row.weight)
        })
    }

    /// True if a plugin is asked at a point.
    pub fn is_asked(&self, place: usize, point: Point) -> bool {
        self.points[point as usize].contains(&place)
    }

    /// The plugin at a place.
    pub fn plugin(&self, place: usize) -> &dyn Plugin {
        self.plugins[place].plugin.as_ref()
    }

    /// How many plugins there are.
    pub fn len(&self) -> usize {
        self.plugins.len()
    }

    /// True if there is none.
    pub fn is_empty(&self) -> bool {
        self.plugins.is_empty()
    }
}

impl WrongProfile {
    fn because(message: String) -> Self {
        WrongProfile { message, ..WrongProfile::default() }
    }

    fn about(message: String, point: &'static str, plugin: &str) -> Self {
        WrongProfile { message, point: Some(point), plugin: Some(plugin.to_owned()), ..WrongProfile::default() }
    }
}

/// Makes the plugins that a profile needs. Those that the registry does not know are found out where they are asked for.
fn instances(
    configuration: &ProfileConfiguration,
    registry: &Registry,
    handle: &Handle,
) -> Result<Vec<Box<dyn Plugin>>, WrongProfile> {
    let needed = configuration.plugins.needed().into_iter();
    let known = needed.filter_map(|name| Some((name, registry.constructor(name)?)));
    known
        .map(|(name, constructor)| {
            constructor(configuration.arguments_of(name), handle).map_err(|wrong| WrongProfile {
                message: format!("initializing plugin \"{name}\": {}", wrong.message),
                plugin: Some(name.to_owned()),
                argument: wrong.argument,
                ..WrongProfile::default()
            })
        })
        .collect()
}

/// Who is asked at which point, in order.
fn points(
    configuration: &ProfileConfiguration,
    plugins: &[Box<dyn Plugin>],
) -> Result<[Vec<usize>; Point::COUNT], WrongProfile> {
    let place = |name: &str| plugins.iter().position(|plugin| plugin.name() == name);
    let mut points: [Vec<usize>; Point::COUNT] = Default::default();
    let all = configuration.plugins.extension_points();
    let has = |place: usize, point: Option<Point>| point.is_some_and(|point| plugins[place].points().contains(&point));
    for point in &all {
        let mut seen: Vec<&str> = Vec::new();
        for plugin in &point.set.enabled {
            let name = plugin.name.as_str();
            let message = match place(name) {
                None => format!("{} \"{name}\" does not exist", point.type_name),
                Some(place) if !has(place, point.point) => {
                    format!("plugin \"{name}\" does not extend {} plugin", point.type_name)
                }
                Some(_) if seen.contains(&name) => {
                    format!("plugin \"{name}\" already registered as \"{}\"", point.type_name)
                }
                Some(_) => {
                    seen.push(name);
                    continue;
                }
            };
            return Err(WrongProfile::about(message, point.field, name));
        }
    }
    let everywhere = &configuration.plugins.multi_point;
    for point in &all {
        if point.set.disabled.iter().all(|plugin| plugin.name != "*")
            && let Some(unknown) = everywhere.enabled.iter().find(|plugin| place(&plugin.name).is_none())
        {
            let message = format!("{} \"{}\" does not exist", point.type_name, unknown.name);
            return Err(WrongProfile::about(message, "multiPoint", &unknown.name));
        }
        let applies = |name: &str| place(name).is_some_and(|place| has(place, point.point));
        let names = point.set.expanded(everywhere, applies).map_err(|name| {
            let message = format!("plugin \"{name}\" already registered as \"{}\"", point.type_name);
            WrongProfile::about(message, "multiPoint", &name)
        })?;
        if let Some(point) = point.point {
            points[point as usize] = names.iter().filter_map(|name| place(name)).collect();
        }
    }
    Ok(points)
}

/// Gives each plugin that scores its weight: the one at the point, or else the one at all points; at least one.
fn weighted(configuration: &ProfileConfiguration, plugins: Vec<Box<dyn Plugin>>) -> Result<Vec<Row>, WrongProfile> {
    let (score, everywhere) = (&configuration.plugins.score, &configuration.plugins.multi_point);
    let mut left = MAX_TOTAL_SCORE;
    let mut rows = Vec::with_capacity(plugins.len());
    for plugin in plugins {
        let mut weight = 0;
        if plugin.points().contains(&Point::Score) {
            let given = score.enabled.iter().chain(&everywhere.enabled).find(|given| given.name == plugin.name());
            let given = given.and_then(|given| given.weight).filter(|weight| *weight != 0);
            weight = i64::from(given.unwrap_or(1));
            let most = weight.saturating_mul(super::framework::MAX_SCORE);
            if most > left {
                let message = "score plugins: total score of Score plugins could overflow".to_owned();
                return Err(WrongProfile::about(message, "score", plugin.name()));
            }
            left -= most;
        }
        rows.push(Row { plugin, weight });
    }
    Ok(rows)
}

/// The profiles of one scheduler.
pub struct Profiles {
    list: Vec<Profile>,
}

impl Profiles {
    /// The profiles that a configuration describes.
    ///
    /// # Errors
    ///
    /// As [`Profile::configured`], with the scheduler name.
    pub fn new(
        configurations: &[ProfileConfiguration],
        registry: &Registry,
        handle: &Handle,
    ) -> Result<Self, WrongProfile> {
        let mut list: Vec<Profile> = Vec::with_capacity(configurations.len());
        for (place, configuration) in configurations.iter().enumerate() {
            let name = &configuration.scheduler_name;
            let made = Profile::configured(configuration, registry, handle).map_err(|wrong| {
                let message = format!("creating profile for scheduler name {name}: {}", wrong.message);
                WrongProfile { message, profile: place, ..wrong }
            })?;
            let sorts = |profile: &Profile| profile.at(Point::QueueSort).next().map(|(_, plugin, _)| plugin.name());
            if let Some(first) = list.first()
                && sorts(first) != sorts(&made)
            {
                let (own, other) = (sorts(&made).unwrap_or_default(), sorts(first).unwrap_or_default());
                let message =
                    format!("different queue sort plugins for profile \"{name}\": \"{own}\", first: \"{other}\"");
                return Err(WrongProfile { profile: place, ..WrongProfile::about(message, "queueSort", own) });
            }
            list.push(made);
        }
        Ok(Profiles { list })
    }

    /// A single profile.
    pub fn single(profile: Profile) -> Self {
        Profiles { list: vec![profile] }
    }

    /// The place of the profile for a pod; none if the pod is for another scheduler.
    pub fn place_for(&self, pod: &Pod) -> Option<usize> {
        let name = pod.spec.full.scheduler_name.as_deref().unwrap_or("default-scheduler");
        self.list.iter().position(|profile| profile.scheduler_name == *name)
    }

    /// The profile at a place.
    pub fn at(&self, place: usize) -> &Profile {
        &self.list[place]
    }

    /// All profiles.
    pub fn iter(&self) -> impl Iterator<Item = &Profile> {
        self.list.iter()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.list.len()
    }

    /// True if there is none, which no scheduler can work with.
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }
}
