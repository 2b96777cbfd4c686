//! Stories of configuration files.

use super::*;
use crate::scheduler::arguments::NodeResourcesFitArgs;
use crate::scheduler::framework::{Plugin, Point};

/// A configuration file with this below its first two lines.
fn read(text: &str) -> Result<Configuration, Vec<Problem>> {
    let text = format!("apiVersion: {API_VERSION}\nkind: {KIND}\n{text}");
    Configuration::read("scheduler.yml", &text, &Registry::in_tree())
}

fn profile(text: &str) -> Profiles {
    let configuration = read(text).unwrap_or_else(|problems| panic!("{problems:?}"));
    Profiles::new(&configuration.profiles, &Registry::in_tree(), &Handle::default())
        .unwrap_or_else(|wrong| panic!("{wrong:?}"))
}

fn asked(profiles: &Profiles, point: Point) -> String {
    let names = profiles.at(0).at(point).map(|(_, plugin, weight)| match weight {
        0 => plugin.name().to_owned(),
        weight => format!("{}={weight}", plugin.name()),
    });
    names.collect::<Vec<_>>().join(" ")
}

fn check_refused(text: &str, expected: &[&str]) {
    let problems = read(text).err().unwrap_or_default();
    assert_eq!(problems.iter().map(ToString::to_string).collect::<Vec<_>>(), expected, "{text}");
}

#[test]
fn an_empty_configuration_is_the_default_one() {
    let configuration = read("").unwrap_or_else(|problems| panic!("{problems:?}"));
    assert_eq!(configuration.profiles.len(), 1);
    assert_eq!(configuration.profiles[0].scheduler_name, "default-scheduler");
    assert_eq!((configuration.initial_back_off, configuration.limits), (SimDuration::from_secs(1), None));
    let default = profile("profiles: [{schedulerName: default-scheduler}]");
    assert!(asked(&default, Point::Score).starts_with("TaintToleration=3 NodeAffinity=2 NodeResourcesFit=1"));
    assert_eq!(asked(&default, Point::Bind), "DefaultBinder");
    assert!(asked(&default, Point::PostFilter).ends_with("DefaultPreemption"));
}

#[test]
fn plugins_are_turned_off_and_weighed_anew_at_single_points_and_at_all() {
    let text = "
profiles:
- plugins:
    multiPoint:
      enabled:
      - {name: NodeAffinity, weight: 7}
      disabled:
      - name: TaintToleration
    score:
      disabled:
      - name: '*'
      enabled:
      - {name: NodeResourcesFit, weight: 5}
      - name: ImageLocality
    filter:
      enabled:
      - name: NodePorts
";
    let profiles = profile(text);
    assert_eq!(asked(&profiles, Point::Score), "NodeResourcesFit=5 ImageLocality=1");
    let filters = asked(&profiles, Point::Filter);
    assert!(filters.starts_with("NodePorts NodeUnschedulable NodeName NodeAffinity=7 NodeResourcesFit=5"), "{filters}");
    assert!(!asked(&profiles, Point::PreScore).contains("TaintToleration"));
}

#[test]
fn several_profiles_serve_several_scheduler_names() {
    let text = "
percentageOfNodesToScore: 40
podInitialBackoffSeconds: 2
podMaxBackoffSeconds: 20
clientConnection: {qps: 200, burst: 400}
parallelism: 4
leaderElection: {leaderElect: false, leaseDuration: 1m0s}
profiles:
- schedulerName: default-scheduler
- schedulerName: packing
  percentageOfNodesToScore: 100
  pluginConfig:
  - name: NodeResourcesFit
    args:
      apiVersion: kubescheduler.config.k8s.io/v1
      kind: NodeResourcesFitArgs
      ignoredResourceGroups: [example.com]
      scoringStrategy:
        type: RequestedToCapacityRatio
        resources: [{name: cpu, weight: 3}, {name: memory}]
        requestedToCapacityRatio:
          shape: [{utilization: 0, score: 0}, {utilization: 100, score: 10}]
";
    let configuration = read(text).unwrap_or_else(|problems| panic!("{problems:?}"));
    assert_eq!((configuration.percentage_of_nodes_to_score, configuration.limits), (40, Some((200, 400))));
    assert_eq!((configuration.initial_back_off.as_secs(), configuration.longest_back_off.as_secs()), (2, 20));
    let packing = &configuration.profiles[1];
    assert_eq!((packing.scheduler_name.as_str(), packing.percentage_of_nodes_to_score), ("packing", Some(100)));
    let Arguments::NodeResourcesFit(NodeResourcesFitArgs { scoring_strategy: Some(strategy), .. }) =
        packing.arguments_of("NodeResourcesFit")
    else {
        panic!("{packing:?}");
    };
    assert_eq!(strategy.resources.iter().map(|resource| resource.weight).collect::<Vec<_>>(), [3, 1]);
}

#[test]
fn fields_that_do_not_exist_or_fit_are_shown_where_they_stand() {
    check_refused(
        "parallelism: many\nprofile: []\n",
        &[
            "scheduler.yml:3:14: json: cannot unmarshal string into Go struct field KubeSchedulerConfiguration.parallelism of type int32 (expected int32)",
            "scheduler.yml:4:1: strict decoding error: unknown field \"profile\"",
        ],
    );
    check_refused(
        "profiles:\n- pluginConfig:\n  - name: InterPodAffinity\n    args:\n      hardPodAffinity: 3\n",
        &[
            "scheduler.yml:7:7: strict decoding error: decoding .profiles[0].pluginConfig[0]: decoding args for plugin InterPodAffinity: strict decoding error: unknown field \"hardPodAffinity\"",
        ],
    );
    check_refused(
        "profiles:\n- pluginConfig:\n  - name: NodeAffinity\n    args:\n      kind: InterPodAffinityArgs\n",
        &[
            "scheduler.yml:7:13: decoding .profiles[0].pluginConfig[0]: args for plugin NodeAffinity were not of type NodeAffinityArgs.kubescheduler.config.k8s.io, got InterPodAffinityArgs.kubescheduler.config.k8s.io",
        ],
    );
}

#[test]
fn values_that_are_wrong_get_the_real_schedulers_errors() {
    let text = "percentageOfNodesToScore: 101
podInitialBackoffSeconds: 0
podMaxBackoffSeconds: -1
parallelism: 0
profiles:
- schedulerName: a
  pluginConfig:
  - name: InterPodAffinity
    args: {hardPodAffinityWeight: 101}
  - name: DefaultPreemption
    args: {minCandidateNodesPercentage: 0, minCandidateNodesAbsolute: 0}
  - name: VolumeBinding
    args: {shape: []}
- schedulerName: a
  plugins:
    filter: {enabled: [{name: EBSLimits}]}
";
    check_refused(
        text,
        &[
            "scheduler.yml:6:14: parallelism: Invalid value: 0: should be an integer value greater than zero",
            "scheduler.yml:11:35: profiles[0].pluginConfig[0].args.hardPodAffinityWeight: Invalid value: 101: not in valid range [0, 100]",
            "scheduler.yml:13:41: profiles[0].pluginConfig[1].args.minCandidateNodesPercentage: Invalid value: 0: cannot be zero at the same time as minCandidateNodesAbsolute",
            "scheduler.yml:13:71: profiles[0].pluginConfig[1].args.minCandidateNodesAbsolute: Invalid value: 0: cannot be zero at the same time as minCandidateNodesPercentage",
            "scheduler.yml:15:19: profiles[0].pluginConfig[2].args.shape: Invalid value: []: unexpected field `shape`, remove it or turn on the feature gate StorageCapacityScoring",
            "scheduler.yml:18:24: profiles[1].plugins.filter.enabled[0]: Invalid value: \"EBSLimits\": was invalid in version \"kubescheduler.config.k8s.io/v1\" (KubeSchedulerConfiguration is version \"kubescheduler.config.k8s.io/v1\")",
            "scheduler.yml:16:18: profiles[1].schedulerName: Duplicate value: {}",
            "scheduler.yml:3:27: percentageOfNodesToScore: Invalid value: 101: not in valid range [0-100]",
            "scheduler.yml:4:27: podInitialBackoffSeconds: Invalid value: 0: must be greater than 0",
            "scheduler.yml:5:23: podMaxBackoffSeconds: Invalid value: -1: must be greater than or equal to PodInitialBackoffSeconds",
        ],
    );
}

#[test]
fn profiles_that_cannot_be_made_say_why() {
    let creating = "initializing profiles: creating profile for scheduler name default-scheduler:";
    let plugins = |plugins: &str| format!("profiles:\n- plugins:\n    {plugins}\n");
    let check = |text: &str, place: &str, message: &str| {
        check_refused(text, &[&format!("scheduler.yml:{place}: {creating} {message}")]);
    };
    check(&plugins("score: {enabled: [{name: Best}]}"), "5:30", "ScorePlugin \"Best\" does not exist");
    check(&plugins("multiPoint: {enabled: [{name: Best}]}"), "5:35", "PreFilterPlugin \"Best\" does not exist");
    check(
        &plugins("score: {enabled: [{name: NodeName}]}"),
        "5:30",
        "plugin \"NodeName\" does not extend ScorePlugin plugin",
    );
    check(
        &plugins("bind: {disabled: [{name: '*'}]}"),
        "4:3",
        "at least one bind plugin is needed for profile with scheduler name \"default-scheduler\"",
    );
    check(
        "profiles:\n- pluginConfig:\n  - name: NodeResourcesFit\n    args: {scoringStrategy: {type: Best}}\n",
        "6:36",
        "initializing plugin \"NodeResourcesFit\": scoringStrategy.type: Unsupported value: \"Best\": supported values: \
         \"LeastAllocated\", \"MostAllocated\", \"RequestedToCapacityRatio\"",
    );
}

#[test]
fn what_is_no_configuration_is_named() {
    let read = |text: &str| {
        let problems = Configuration::read("s.yml", text, &Registry::in_tree()).err().unwrap_or_default();
        problems.first().map(ToString::to_string).unwrap_or_default()
    };
    let old = read("apiVersion: kubescheduler.config.k8s.io/v1beta3\nkind: KubeSchedulerConfiguration\n");
    assert!(old.starts_with("s.yml:1:13: no kind \"KubeSchedulerConfiguration\" is registered for version \"kubescheduler.config.k8s.io/v1beta3\" in scheme"), "{old}");
    let other = read("apiVersion: kubescheduler.config.k8s.io/v1\nkind: InterPodAffinityArgs\n");
    assert!(other.contains("couldn't decode as KubeSchedulerConfiguration, got"), "{other}");
    assert!(read("").contains("the file holds 0 objects"));
}

/// A plugin of a library's user, which reads its arguments itself.
struct Mine(i64);

impl Plugin for Mine {
    fn name(&self) -> &'static str {
        "Mine"
    }

    fn points(&self) -> &'static [Point] {
        &[Point::QueueSort]
    }

    fn rank(&self, _pod: &crate::api::pod::Pod) -> i64 {
        self.0
    }
}

#[test]
fn a_plugin_of_ones_own_is_registered_and_reads_its_arguments() {
    let mut registry = Registry::in_tree();
    let made = |arguments: &Arguments, _: &Handle| {
        let Arguments::Other(value) = arguments else { panic!("{arguments:?}") };
        Ok(Box::new(Mine(value["rank"].as_i64().unwrap_or(0))) as Box<dyn Plugin>)
    };
    assert_eq!(registry.register("Mine", made), Ok(()));
    assert_eq!(registry.register("Mine", made), Err("a plugin named Mine already exists".to_owned()));
    let text = format!(
        "apiVersion: {API_VERSION}\nkind: {KIND}\nprofiles:\n- plugins:\n    queueSort: {{enabled: [{{name: Mine}}], disabled: [{{name: '*'}}]}}\n  pluginConfig: [{{name: Mine, args: {{rank: 3}}}}]\n"
    );
    let configuration =
        Configuration::read("s.yml", &text, &registry).unwrap_or_else(|problems| panic!("{problems:?}"));
    let profiles = Profiles::new(&configuration.profiles, &registry, &Handle::default());
    let profiles = profiles.unwrap_or_else(|wrong| panic!("{wrong:?}"));
    let pod = crate::scheduler::testing::pod("web", "1");
    let crate::api::object::Object::Pod(pod) = pod else { panic!("no pod") };
    assert_eq!(profiles.at(0).rank(&pod), 3);
}

#[test]
fn plugins_are_asked_where_the_real_ones_are_and_nowhere_else() {
    let at =
        |point: &str, plugin: &str| format!("profiles: [{{plugins: {{{point}: {{enabled: [{{name: {plugin}}}]}}}}}}]");
    let made = profile(&at("reserve", "DynamicResources"));
    assert_eq!(asked(&made, Point::Reserve), "DynamicResources=2 VolumeBinding=1");
    assert_eq!(asked(&made, Point::PreBind), "VolumeBinding=1 DynamicResources=2");
    for (point, name, plugin) in
        [("postBind", "PostBindPlugin", "VolumeBinding"), ("preScore", "PreScorePlugin", "DynamicResources")]
    {
        let problems = read(&at(point, plugin)).err().unwrap_or_default();
        let said = format!("plugin \"{plugin}\" does not extend {name} plugin");
        assert!(problems.iter().any(|problem| problem.to_string().contains(&said)), "{problems:?}");
    }
}

#[test]
fn extenders_are_checked_and_those_that_decide_are_refused() {
    check_refused(
        "extenders: [{prioritizeVerb: p, bindVerb: b, managedResources: [{name: cpu}]}, {bindVerb: b}]",
        &[
            "scheduler.yml:3:13: extenders[0].weight: Invalid value: 0: must have a positive weight applied to it",
            "scheduler.yml:3:72: extenders[0].managedResources[0].name: Invalid value: \"cpu\": is an invalid extended \
             resource name",
            "scheduler.yml:3:12: extenders: Invalid value: \"found 2 extenders implementing bind\": only one extender can \
             implement bind",
        ],
    );
    check_refused(
        "extenders: [{filterVerb: f}]",
        &["scheduler.yml:3:13: extenders are not simulated \
           (expected no extender but such as are ignorable or only prioritize)"],
    );
}

#[test]
fn resources_that_extenders_manage_are_left_to_them() {
    let configuration = read(
        "extenders:\n- {prioritizeVerb: p, weight: 1, ignorable: false}\n\
         - {filterVerb: f, ignorable: true, managedResources: [{name: a.b/gpu, ignoredByScheduler: true}, {name: a.b/nic}]}\n\
         profiles: [{pluginConfig: [{name: NodeResourcesFit, args: {ignoredResources: [a.b/other]}}]}]",
    );
    let configuration = configuration.unwrap_or_else(|problems| panic!("{problems:?}"));
    let Arguments::NodeResourcesFit(fit) = configuration.profiles[0].arguments_of("NodeResourcesFit") else {
        panic!("not its arguments");
    };
    assert_eq!(fit.ignored_resources, ["a.b/gpu"]);
    check_refused(
        "extenders: [{managedResources: [{name: a.b/gpu, ignoredByScheduler: true}]}]\nprofiles: [{plugins: {multiPoint: \
         {disabled: [{name: '*'}], enabled: [{name: PrioritySort}, {name: DefaultBinder}]}}}]",
        &["scheduler.yml:4:12: couldn't build extenders: can't find NodeResourcesFitArgs in plugin config"],
    );
}
