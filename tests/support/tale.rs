//! What the objects of a recording did, told so that two correct runs tell the same: pods by what controls them, ReplicaSets
//! and their pods by the order of creation, nodes without their names.

use std::collections::BTreeMap;

use kubesim::report::changes::flatten;
use serde_json::Value;

/// What happened, each thing with its milliseconds, by what it happened to.
pub type Tale = BTreeMap<String, Vec<(u64, String)>>;

/// How many endpoints were ready (or listed) and how many going (or listed as not ready), from when to when, by kind and Service.
pub type Totals = BTreeMap<String, Vec<Total>>;

/// Numbers of endpoints.
pub struct Total {
    from: u64,
    until: u64,
    numbers: [u32; 2],
}

/// Numbers of endpoints that do not stay for so long, in milliseconds, are steps on the way of updates in batches.
const SETTLED: u64 = 700;

/// Tells what happened in a namespace, and to nodes, from its creation to its deletion.
pub fn tale(lines: &[Value], namespace: &str) -> (Tale, Totals) {
    let time_of = |action: &str| {
        let line = lines.iter().find(|line| text(line, "action") == action);
        line.and_then(|line| line["t"].as_u64()).unwrap_or_else(|| panic!("no action {action}"))
    };
    let begin = time_of(&format!("kubectl create namespace {namespace}"));
    let end = time_of(&format!("kubectl delete namespace {namespace} --wait=true --timeout=60s"));
    let is_told = |line: &&Value| {
        line.get("ev").is_some()
            && (line["ns"] == namespace || line["kind"] == "Node")
            && line["t"].as_u64() < Some(end)
    };
    let mut changes: Vec<&Value> = lines.iter().filter(is_told).collect();
    // Lines of different kinds may be out of order by milliseconds; their revisions tell the true order.
    changes.sort_by_key(|line| text(line, "rv").parse::<u64>().expect("a revision"));
    let mut teller = Teller::default();
    for line in changes {
        teller.hear(line, begin);
    }
    teller.finish(end)
}

/// True if both tell the same, each thing within the milliseconds; the number of things told.
pub fn assert_same(real: &Tale, ours: &Tale, tolerance: u64) -> usize {
    assert_eq!(real.keys().collect::<Vec<_>>(), ours.keys().collect::<Vec<_>>());
    let mut compared = 0;
    for (key, real) in real {
        let ours = &ours[key];
        let told = |of: &[(u64, String)]| of.iter().map(|(_, told)| told.clone()).collect::<Vec<_>>();
        assert_eq!(told(real), told(ours), "{key}");
        for ((real, told), (ours, _)) in real.iter().zip(ours) {
            assert!(real.abs_diff(*ours) <= tolerance, "{key}: {told} at {ours} ms, in the recording at {real} ms");
            compared += 1;
        }
    }
    compared
}

/// True if the numbers that stayed for long in one of the runs came in the other, in the same order.
pub fn assert_settled_alike(real: &Totals, ours: &Totals) {
    assert_eq!(real.keys().collect::<Vec<_>>(), ours.keys().collect::<Vec<_>>());
    for (key, real) in real {
        for (one, other) in [(real, &ours[key]), (&ours[key], real)] {
            let mut rest = other.iter();
            for total in one.iter().filter(|total| total.until - total.from > SETTLED) {
                let found = rest.any(|it| it.numbers == total.numbers);
                assert!(found, "{key}: only one has {:?}, from {} ms on", total.numbers, total.from);
            }
        }
    }
}

fn text<'a>(line: &'a Value, key: &str) -> &'a str {
    line[key].as_str().unwrap_or_default()
}

/// What is known while lines are heard.
#[derive(Default)]
struct Teller {
    tale: Tale,
    /// What stands for a generated name.
    labels: BTreeMap<String, String>,
    /// How many there were of something, for those that have no names.
    counts: BTreeMap<String, u32>,
    /// What an object of endpoints has in each field.
    endpoints: BTreeMap<String, BTreeMap<String, Value>>,
    totals: Totals,
    /// How often an event of an object was told.
    events: BTreeMap<String, (String, i64)>,
}

impl Teller {
    fn hear(&mut self, line: &Value, begin: u64) {
        let (kind, name, at) = (text(line, "kind"), text(line, "name"), line["t"].as_u64().expect("a time"));
        if line.get("obj").is_some() {
            self.name(kind, name, &line["obj"]);
        }
        if kind == "Node" && at < begin {
            return;
        }
        let fields: BTreeMap<String, Value> = match (line.get("obj"), line["changes"].as_object()) {
            (Some(whole), _) => {
                flatten(whole).into_iter().map(|(path, value)| (path.to_string(), value.clone())).collect()
            }
            (None, Some(changes)) => changes.iter().map(|(path, pair)| (path.clone(), pair[1].clone())).collect(),
            _ => BTreeMap::new(),
        };
        match kind {
            "Pod" => self.pod(text(line, "ev"), name, at, &fields),
            "Deployment" | "ReplicaSet" | "StatefulSet" | "DaemonSet" => {
                let is_told = |path: &str| {
                    path == "spec.replicas" || path.starts_with("status.conditions[") && path.ends_with("].status")
                };
                self.fields(kind, name, at, &fields, is_told);
            }
            "Node" => self.fields(kind, name, at, &fields, |path| {
                path == "status.conditions[Ready].status"
                    || path.starts_with("spec.taints[") && path.ends_with("].effect")
            }),
            "Endpoints" | "EndpointSlice" => self.endpoints(kind, text(line, "ev"), name, at, fields),
            "Event" if text(line, "ev") != "DELETED" => self.event(name, line),
            _ => {}
        }
    }

    /// Finds what stands for a new object's name.
    fn name(&mut self, kind: &str, name: &str, object: &Value) {
        let meta = &object["metadata"];
        let owner = &meta["ownerReferences"][0];
        let owner_name = owner["name"].as_str().unwrap_or_default();
        let label = match kind {
            "Node" => "a node".to_owned(),
            "ReplicaSet" => {
                let count = self.counts.entry(format!("sets of {owner_name}")).or_default();
                *count += 1;
                format!("{owner_name}#{count}")
            }
            "Pod" if owner["kind"] != "StatefulSet" => format!("pod of {}", self.label(owner_name)),
            "EndpointSlice" => meta["labels"]["kubernetes.io/service-name"].as_str().unwrap_or_default().to_owned(),
            _ => return,
        };
        self.labels.insert(name.to_owned(), label);
    }

    fn label(&self, name: &str) -> String {
        self.labels.get(name).cloned().unwrap_or_else(|| name.to_owned())
    }

    fn tell(&mut self, what: String, at: u64, news: String) {
        self.tale.entry(what).or_default().push((at, news));
    }

    fn pod(&mut self, event: &str, name: &str, at: u64, fields: &BTreeMap<String, Value>) {
        let mut news = Vec::new();
        if event != "MODIFIED" {
            news.push(if event == "ADDED" { "created" } else { "gone" });
        }
        if fields.get("spec.nodeName").is_some_and(Value::is_string) {
            news.push("bound");
        }
        match fields.get("status.conditions[Ready].status").and_then(Value::as_str) {
            Some("True") => news.push("ready"),
            Some("False") if event == "MODIFIED" => news.push("not ready"),
            _ => {}
        }
        // A second mark ends the grace.
        if fields.get("metadata.deletionGracePeriodSeconds").is_some_and(|grace| *grace != 0 && !grace.is_null()) {
            news.push("going");
        }
        for news in news {
            let key = format!("{} {news}", self.label(name));
            let count = self.counts.entry(key.clone()).or_default();
            *count += 1;
            let count = count.to_string();
            self.tell(key, at, count);
        }
    }

    fn fields(
        &mut self,
        kind: &str,
        name: &str,
        at: u64,
        fields: &BTreeMap<String, Value>,
        is_told: impl Fn(&str) -> bool,
    ) {
        for (path, value) in fields.iter().filter(|(path, _)| is_told(path)) {
            let what = format!("{kind} {} {path}", self.label(name));
            let value = value.to_string();
            if self.tale.get(&what).and_then(|told| told.last()).is_none_or(|(_, last)| *last != value) {
                self.tell(what, at, value);
            }
        }
    }

    fn endpoints(&mut self, kind: &str, event: &str, name: &str, at: u64, fields: BTreeMap<String, Value>) {
        let label = format!("{kind} {}", self.label(name));
        let object = self.endpoints.entry(format!("{label}/{name}")).or_default();
        for (path, value) in fields {
            if value.is_null() {
                object.remove(&path);
            } else {
                object.insert(path, value);
            }
        }
        if event == "DELETED" {
            object.clear();
        }
        let mut numbers = [0; 2];
        let prefix = format!("{label}/");
        let of_service = self.endpoints.iter().filter(|(key, _)| key.starts_with(&prefix));
        for (path, value) in of_service.flat_map(|(_, fields)| fields) {
            let counted = match kind {
                "Endpoints" => [
                    path.ends_with(".ip") && path.contains(".addresses["),
                    path.ends_with(".ip") && path.contains(".notReadyAddresses["),
                ],
                _ => ["ready", "terminating"].map(|it| *value == true && path.ends_with(&format!(".conditions.{it}"))),
            };
            for (number, is_one) in numbers.iter_mut().zip(counted) {
                *number += u32::from(is_one);
            }
        }
        let told = self.totals.entry(label).or_default();
        if told.last().is_none_or(|last| last.numbers != numbers) {
            if let Some(last) = told.last_mut() {
                last.until = at;
            }
            told.push(Total { from: at, until: at, numbers });
        }
    }

    fn event(&mut self, name: &str, line: &Value) {
        if let Some(event) = line.get("obj") {
            // Pods may come in the milliseconds before the controller sees the Endpoints that it has just made: then it makes
            // them once more.
            if event["reason"] == "FailedToCreateEndpoint" && text(event, "message").ends_with("already exists") {
                return;
            }
            let about = &event["involvedObject"];
            let about = format!("{} {}", text(about, "kind"), self.label(text(about, "name")));
            let message = self.anonymous(text(event, "message"));
            let what = format!("event of {about}: {} {} {message}", text(event, "type"), text(event, "reason"));
            self.events.insert(name.to_owned(), (what, event["count"].as_i64().unwrap_or(1)));
        } else if let (Some((_, count)), Some(new)) = (self.events.get_mut(name), line["changes"]["count"][1].as_i64())
        {
            *count = new;
        }
    }

    /// A message without generated names and addresses.
    fn anonymous(&self, message: &str) -> String {
        let is_of_name = |it: char| it.is_ascii_alphanumeric() || it == '-' || it == '.';
        let mut plain = String::new();
        for piece in message.split_inclusive(|it: char| !is_of_name(it)) {
            let word = piece.trim_end_matches(|it: char| !is_of_name(it));
            plain += &self.label(word);
            plain += &piece[word.len()..];
        }
        plain
    }

    fn finish(mut self, end: u64) -> (Tale, Totals) {
        for last in self.totals.values_mut().filter_map(|totals| totals.last_mut()) {
            last.until = end;
        }
        // When an event is told depends on what else its component has to ask for, how often does not.
        let mut counts: BTreeMap<String, i64> = BTreeMap::new();
        for (what, count) in self.events.into_values() {
            *counts.entry(what).or_default() += count;
        }
        self.tale.extend(counts.into_iter().map(|(what, count)| (what, vec![(0, count.to_string())])));
        (self.tale, self.totals)
    }
}
