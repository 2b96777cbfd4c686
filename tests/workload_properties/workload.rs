//! Workloads of every kind, drawn by chance, and their manifests.
//!
//! A case has at most one of each kind, and each has its name: so what is done to one stays the same while others are shrunk away.

use proptest::prelude::*;

/// Images that serve as they should.
pub const GOOD: [&str; 3] = ["app:v1", "app:v2", "app:v3"];
/// Images that do not: never ready, crashing, not to be had.
pub const BROKEN: [&str; 3] = ["app:unready", "app:crashing", "app:missing"];

/// How images behave, each as a line of the scenario. Images that are not named here are servers that do well.
pub const IMAGES: [(&str, &str); 7] = [
    ("app:unready", "{readiness: {passing: false}}"),
    ("app:crashing", "{readiness: {passing: false}, exit: {after: 2s, codes: [1]}}"),
    ("app:missing", "{pull: {error: not found}}"),
    ("work:good", "{exit: {after: {median: 3s, p99: 6s}}}"),
    ("work:flaky", "{exit: {after: 3s}, crash: {outOf: 1, chances: 3, after: 1s}}"),
    ("work:second", "{exit: {after: 2s, codes: [1, 0]}}"),
    ("work:hopeless", "{exit: {after: 1s, codes: [1]}}"),
];

/// A number, or a percentage of the replicas.
#[derive(Clone, Copy, Debug)]
pub enum Amount {
    Number(u32),
    Percent(u32),
}

/// A disruption budget.
#[derive(Clone, Copy, Debug)]
pub enum Budget {
    MinAvailable(Amount),
    MaxUnavailable(Amount),
}

/// The Deployment `web`.
#[derive(Clone, Debug)]
pub struct Web {
    pub replicas: u32,
    /// Surge and how many may be missing; all at once if not given.
    pub rolling: Option<(Amount, Amount)>,
    pub min_ready: u32,
    pub budget: Option<Budget>,
}

/// The StatefulSet `db`.
#[derive(Clone, Debug)]
pub struct Db {
    pub replicas: u32,
    pub start: u32,
    pub parallel: bool,
    /// Partition and how many may be missing; by hand if not given.
    pub rolling: Option<(u32, Option<u32>)>,
    pub min_ready: u32,
    /// Claims, and whether they go when the set goes and when it shrinks.
    pub claims: Option<(bool, bool)>,
    pub budget: Option<Budget>,
}

/// The DaemonSet `agent`.
#[derive(Clone, Debug)]
pub struct Agent {
    /// Surge if the first is true, else how many may be missing; by hand if not given.
    pub rolling: Option<(bool, Amount)>,
    pub min_ready: u32,
}

/// The Job `work`.
#[derive(Clone, Debug)]
pub struct Work {
    pub completions: u32,
    pub parallelism: u32,
    pub indexed: bool,
    pub back_off_limit: u32,
    pub per_index: Option<u32>,
    /// Failed containers are started again in their pods.
    pub on_failure: bool,
    /// A pod is replaced only when it has ended.
    pub replaces_failed: bool,
    pub image: &'static str,
}

/// What runs in the cluster.
#[derive(Clone, Debug, Default)]
pub struct Workloads {
    pub web: Option<Web>,
    pub db: Option<Db>,
    pub agent: Option<Agent>,
    pub work: Option<Work>,
}

fn amount() -> impl Strategy<Value = Amount> {
    prop_oneof![
        (1u32..4).prop_map(Amount::Number),
        prop_oneof![Just(1u32), Just(25), Just(34), Just(50), Just(100)].prop_map(Amount::Percent),
    ]
}

/// The same, or nothing.
fn amount_or_none() -> impl Strategy<Value = Amount> {
    prop_oneof![1 => Just(Amount::Number(0)), 3 => amount()]
}

pub fn budget() -> impl Strategy<Value = Budget> {
    prop_oneof![amount().prop_map(Budget::MaxUnavailable), amount().prop_map(Budget::MinAvailable)]
}

pub fn web() -> impl Strategy<Value = Web> {
    // The API refuses an update that may neither add nor take away.
    let pair = (amount_or_none(), amount_or_none()).prop_map(|(surge, missing)| {
        (surge, if surge.is_none() && missing.is_none() { Amount::Number(1) } else { missing })
    });
    let rolling = prop_oneof![5 => pair.prop_map(Some), 1 => Just(None)];
    (1u32..7, rolling, seconds(), prop::option::weighted(0.3, budget()))
        .prop_map(|(replicas, rolling, min_ready, budget)| Web { replicas, rolling, min_ready, budget })
}

pub fn db() -> impl Strategy<Value = Db> {
    let rolling = prop::option::weighted(0.85, (prop_oneof![2 => Just(0u32), 1 => 1u32..4], prop::option::of(1u32..3)));
    let start = prop_oneof![3 => Just(0u32), 1 => 1u32..4];
    let claims = prop::option::of(any::<(bool, bool)>());
    (1u32..5, start, any::<bool>(), rolling, seconds(), claims, prop::option::weighted(0.3, budget())).prop_map(
        |(replicas, start, parallel, rolling, min_ready, claims, budget)| Db {
            replicas,
            start,
            parallel,
            rolling,
            min_ready,
            claims,
            budget,
        },
    )
}

pub fn agent() -> impl Strategy<Value = Agent> {
    (prop::option::weighted(0.85, (any::<bool>(), amount())), seconds())
        .prop_map(|(rolling, min_ready)| Agent { rolling, min_ready })
}

pub fn work() -> impl Strategy<Value = Work> {
    let image = prop_oneof![
        3 => Just("work:good"), 2 => Just("work:flaky"), 1 => Just("work:second"), 1 => Just("work:hopeless"),
    ];
    (1u32..9, 1u32..5, any::<bool>(), 0u32..5, prop::option::of(0u32..3), any::<bool>(), any::<bool>(), image).prop_map(
        |(completions, parallelism, indexed, back_off_limit, per_index, on_failure, replaces_failed, image)| Work {
            completions,
            parallelism,
            indexed,
            back_off_limit,
            per_index: per_index.filter(|_| indexed && !on_failure),
            on_failure,
            replaces_failed,
            image,
        },
    )
}

/// `minReadySeconds`: mostly none.
fn seconds() -> impl Strategy<Value = u32> {
    prop_oneof![3 => Just(0u32), 1 => 1u32..6]
}

impl Amount {
    fn is_none(self) -> bool {
        matches!(self, Amount::Number(0))
    }

    fn yaml(self) -> String {
        match self {
            Amount::Number(number) => number.to_string(),
            Amount::Percent(percent) => format!("{percent}%"),
        }
    }
}

impl Budget {
    fn yaml(self, app: &str) -> String {
        let rule = match self {
            Budget::MinAvailable(amount) => format!("minAvailable: {}", amount.yaml()),
            Budget::MaxUnavailable(amount) => format!("maxUnavailable: {}", amount.yaml()),
        };
        format!(
            "- object:
    apiVersion: policy/v1
    kind: PodDisruptionBudget
    metadata: {{name: {app}}}
    spec: {{{rule}, selector: {{matchLabels: {{app: {app}}}}}}}
"
        )
    }
}

/// Selector and template of a server's pods.
fn template(app: &str) -> String {
    format!(
        "      selector: {{matchLabels: {{app: {app}}}}}
      template:
        metadata: {{labels: {{app: {app}}}}}
        spec:
          containers:
          - {{name: app, image: \"app:v1\", readinessProbe: {{httpGet: {{path: /, port: 80}}, periodSeconds: 2}}}}
"
    )
}

fn head(version: &str, kind: &str, name: &str) -> String {
    format!("- object:\n    apiVersion: {version}\n    kind: {kind}\n    metadata: {{name: {name}}}\n    spec:\n")
}

impl Web {
    pub fn yaml(&self) -> String {
        let strategy = match self.rolling {
            Some((surge, missing)) => format!(
                "{{type: RollingUpdate, rollingUpdate: {{maxSurge: {}, maxUnavailable: {}}}}}",
                surge.yaml(),
                missing.yaml()
            ),
            None => "{type: Recreate}".to_owned(),
        };
        let spec = format!(
            "      replicas: {}\n      strategy: {strategy}\n      minReadySeconds: {}\n",
            self.replicas, self.min_ready
        );
        let budget = self.budget.map(|budget| budget.yaml("web")).unwrap_or_default();
        head("apps/v1", "Deployment", "web") + &spec + &template("web") + &budget
    }
}

impl Db {
    pub fn yaml(&self) -> String {
        let policy = if self.parallel { "Parallel" } else { "OrderedReady" };
        let strategy = match self.rolling {
            Some((partition, missing)) => {
                let missing = missing.map(|missing| format!(", maxUnavailable: {missing}")).unwrap_or_default();
                format!("{{type: RollingUpdate, rollingUpdate: {{partition: {partition}{missing}}}}}")
            }
            None => "{type: OnDelete}".to_owned(),
        };
        let mut text = head("apps/v1", "StatefulSet", "db");
        text += &format!(
            "      serviceName: db\n      replicas: {}\n      podManagementPolicy: {policy}\n      updateStrategy: {strategy}\n      minReadySeconds: {}\n",
            self.replicas, self.min_ready
        );
        if self.start > 0 {
            text += &format!("      ordinals: {{start: {}}}\n", self.start);
        }
        text += &template("db");
        if let Some((deleted, scaled)) = self.claims {
            let word = |goes: bool| if goes { "Delete" } else { "Retain" };
            text += &format!(
                "      persistentVolumeClaimRetentionPolicy: {{whenDeleted: {}, whenScaled: {}}}\n      volumeClaimTemplates:\n      - metadata: {{name: data}}\n        spec: {{accessModes: [ReadWriteOnce], resources: {{requests: {{storage: 1Gi}}}}}}\n",
                word(deleted),
                word(scaled)
            );
        }
        text + &self.budget.map(|budget| budget.yaml("db")).unwrap_or_default()
    }
}

impl Agent {
    pub fn yaml(&self) -> String {
        let strategy = match self.rolling {
            Some((true, amount)) => {
                format!("{{type: RollingUpdate, rollingUpdate: {{maxSurge: {}, maxUnavailable: 0}}}}", amount.yaml())
            }
            Some((false, amount)) => {
                format!("{{type: RollingUpdate, rollingUpdate: {{maxUnavailable: {}}}}}", amount.yaml())
            }
            None => "{type: OnDelete}".to_owned(),
        };
        let spec = format!("      updateStrategy: {strategy}\n      minReadySeconds: {}\n", self.min_ready);
        head("apps/v1", "DaemonSet", "agent") + &spec + &template("agent")
    }
}

impl Work {
    pub fn yaml(&self) -> String {
        let mode = if self.indexed { "Indexed" } else { "NonIndexed" };
        let restart = if self.on_failure { "OnFailure" } else { "Never" };
        let mut text = head("batch/v1", "Job", "work");
        text += &format!(
            "      completions: {}\n      parallelism: {}\n      completionMode: {mode}\n      backoffLimit: {}\n",
            self.completions, self.parallelism, self.back_off_limit
        );
        if let Some(limit) = self.per_index {
            text += &format!("      backoffLimitPerIndex: {limit}\n");
        }
        if self.replaces_failed {
            text += "      podReplacementPolicy: Failed\n";
        }
        text + &format!(
            "      template: {{spec: {{restartPolicy: {restart}, containers: [{{name: work, image: \"{}\"}}]}}}}\n",
            self.image
        )
    }
}

impl Workloads {
    /// All manifests, as a scenario lists them.
    pub fn yaml(&self) -> String {
        let class = "- object:
    apiVersion: storage.k8s.io/v1
    kind: StorageClass
    metadata: {name: standard, annotations: {storageclass.kubernetes.io/is-default-class: \"true\"}}
    provisioner: disks.example.com
    volumeBindingMode: WaitForFirstConsumer
";
        let mut text = String::new();
        if self.db.as_ref().is_some_and(|db| db.claims.is_some()) {
            text += class;
        }
        let all = [
            self.web.as_ref().map(Web::yaml),
            self.db.as_ref().map(Db::yaml),
            self.agent.as_ref().map(Agent::yaml),
            self.work.as_ref().map(Work::yaml),
        ];
        all.into_iter().flatten().for_each(|manifest| text += &manifest);
        text
    }
}
