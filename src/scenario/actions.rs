//! What a step of a scenario file does, checked.

use std::rc::Rc;

use serde_json::Value;

use crate::api::kind::Kind;
use crate::api::meta::ObjectKey;
use crate::api::pod::Pod;
use crate::api::quantity::{Format, Quantity};
use crate::api::validation::format;
use crate::apiserver::protocol::{Part, Propagation};
use crate::engine::network::Directions;
use crate::engine::time::SimDuration;
use crate::kubelet::clock;
use crate::runtime::span::Span;

use super::build;
use super::check::Checker;
use super::file::cluster::PoolFile;
use super::file::step::{
    ApplyFile, CascadeFile, ClockFile, DeleteFile, DirectionFile, EtcdStepFile, MarkFile, NodeFile, NodeImageFile,
    PartitionFile, PatchFile, PatchKindFile, PowerFile, RolloutFile, ScaleFile, SetImageFile, SignalStepFile,
    StaticPodFile, StaticPodsFile, StepFile, TaintStepFile,
};
use super::manifests::Manifest;
use super::plan::{Action, Command, Drain, Fault, Mark, Rollout, StaticPod, object_key};

/// How long a reboot takes if nothing is said.
const REBOOT: SimDuration = SimDuration::from_secs(30);

/// The one action of a step; none if there is not exactly one, or something is wrong with it.
pub(super) fn action(checker: &mut Checker<'_>, step: &StepFile, path: &str) -> Option<Action> {
    let mut given: Vec<(&str, Option<Action>)> = Vec::new();
    macro_rules! look {
        ($($field:ident $name:literal $checked:expr;)*) => {
            $(if let Some(file) = &step.$field {
                let path = format!("{path}.{}", $name);
                let checked: Option<Action> = $checked(&mut *checker, file, path.as_str());
                given.push(($name, checked));
            })*
        };
    }
    let cordon = |on: bool| {
        move |_: &mut Checker<'_>, node: &String, _: &str| {
            Some(Action::Command(Command::Cordon { node: node.clone(), on }))
        }
    };
    look! {
        create "create" |checker: &mut Checker<'_>, file: &ApplyFile, path: &str| {
            let manifests = manifests(checker, file, path);
            Some(Action::Command(Command::Create { manifests }))
        };
        apply "apply" |checker: &mut Checker<'_>, file: &ApplyFile, path: &str| {
            let manifests = manifests(checker, file, path);
            Some(Action::Command(Command::Apply { manifests, is_patient: false }))
        };
        delete "delete" delete;
        scale "scale" scale;
        set_image "setImage" set_image;
        patch "patch" patch;
        rollout "rollout" rollout;
        label_object "labelObject" |checker: &mut Checker<'_>, file, path: &str| mark(checker, file, path, Mark::Label);
        annotate "annotate" |checker: &mut Checker<'_>, file, path: &str| mark(checker, file, path, Mark::Annotation);
        cordon "cordon" cordon(true);
        uncordon "uncordon" cordon(false);
        drain "drain" |_: &mut Checker<'_>, file: &super::file::step::DrainFile, _: &str| {
            let options = Drain {
                force: file.force,
                ignore_daemon_sets: file.ignore_daemonsets,
                delete_empty_dir_data: file.delete_emptydir_data,
                disable_eviction: file.disable_eviction,
                grace_seconds: file.grace_period_seconds.map(i64::from),
                timeout: file.timeout.map(|span| span.0),
            };
            Some(Action::Command(Command::Drain { node: file.node.clone(), options }))
        };
        taint "taint" taint;
        node "node" node;
        etcd "etcd" etcd;
        process "process" |checker: &mut Checker<'_>, file, path: &str| {
            power(checker, file, path, Fault::ProcessCrash, Fault::ProcessRestart)
        };
        machine "machine" |checker: &mut Checker<'_>, file, path: &str| {
            power(checker, file, path, Fault::MachineCrash, Fault::MachineRestart)
        };
        partition "partition" |checker: &mut Checker<'_>, file, path: &str| {
            partition(checker, file, path, &step.name)
        };
        heal "heal" |_: &mut Checker<'_>, name: &String, _: &str| Some(Action::Fault(Fault::Heal(name.clone())));
        signal "signal" |checker: &mut Checker<'_>, file: &SignalStepFile, path: &str| {
            checker.signal(&file.name, &format!("{path}.name"));
            Some(Action::Fault(Fault::Signal { name: file.name.clone(), amount: file.amount.0.milli_value() }))
        };
        note "note" |_: &mut Checker<'_>, text: &String, _: &str| Some(Action::Note(text.clone()));
    }
    match given.as_mut_slice() {
        [(_, action)] => action.take(),
        [] => {
            let message = format!("the step \"{}\" does nothing", step.name);
            checker.expected(path, message, "expected one action, such as apply, setImage or node");
            None
        }
        [(first, _), (second, _), ..] => {
            let message = format!("the step \"{}\" does several things: {first}, {second}", step.name);
            checker.expected(path, message, "expected one action; use several steps");
            None
        }
    }
}

fn key(checker: &mut Checker<'_>, word: &str, namespace: &Option<String>, path: &str) -> Option<ObjectKey> {
    match object_key(word, namespace.as_deref().unwrap_or("default")) {
        Ok(key) => Some(key),
        Err(why) => {
            checker.expected(path, why, "expected kind and name, such as deployment/web");
            None
        }
    }
}

fn manifests(checker: &mut Checker<'_>, file: &ApplyFile, path: &str) -> Rc<[Manifest]> {
    let namespace = file.namespace.as_deref().unwrap_or("default");
    for message in format::dns_1123_label(namespace) {
        checker.wrong(&format!("{path}.namespace"), message);
    }
    checker.manifests(&file.manifests, &format!("{path}.manifests"), namespace).into()
}

fn delete(checker: &mut Checker<'_>, file: &DeleteFile, path: &str) -> Option<Action> {
    let mut keys = Vec::new();
    for (place, word) in file.objects.iter().enumerate() {
        keys.extend(key(checker, word, &file.namespace, &format!("{path}.objects[{place}]")));
    }
    Some(Action::Command(Command::Delete {
        keys,
        wait: file.wait.unwrap_or(true),
        grace_seconds: file.grace_period_seconds.map(i64::from),
        propagation: match file.cascade {
            CascadeFile::Background => Propagation::Background,
            CascadeFile::Foreground => Propagation::Foreground,
            CascadeFile::Orphan => Propagation::Orphan,
        },
    }))
}

fn scale(checker: &mut Checker<'_>, file: &ScaleFile, path: &str) -> Option<Action> {
    let key = key(checker, &file.object, &file.namespace, &format!("{path}.object"))?;
    if !key.kind.row().has_scale {
        checker.wrong(&format!("{path}.object"), format!("a {} cannot be scaled", key.kind.row().name));
        return None;
    }
    let Ok(replicas) = i32::try_from(file.replicas) else {
        checker.wrong(&format!("{path}.replicas"), "there cannot be so many replicas");
        return None;
    };
    Some(Action::Command(Command::Scale { key, replicas }))
}

fn set_image(checker: &mut Checker<'_>, file: &SetImageFile, path: &str) -> Option<Action> {
    let key = key(checker, &file.object, &file.namespace, &format!("{path}.object"))?;
    if !matches!(
        key.kind,
        Kind::Deployment
            | Kind::ReplicaSet
            | Kind::ReplicationController
            | Kind::DaemonSet
            | Kind::StatefulSet
            | Kind::Pod
    ) {
        checker.wrong(&format!("{path}.object"), format!("a {} has no containers", key.kind.row().name));
        return None;
    }
    if file.images.is_empty() {
        checker.expected(
            &format!("{path}.images"),
            "no image is given",
            "expected images by container, such as app: fake/app:v2",
        );
    }
    let images = file.images.iter().map(|(container, image)| (container.clone(), image.clone())).collect();
    Some(Action::Command(Command::SetImage { key, images }))
}

fn patch(checker: &mut Checker<'_>, file: &PatchFile, path: &str) -> Option<Action> {
    let key = key(checker, &file.object, &file.namespace, &format!("{path}.object"))?;
    let (fits, expected) = match file.kind {
        PatchKindFile::Json => (file.patch.is_array(), "expected a list of operations"),
        PatchKindFile::Merge | PatchKindFile::Strategic => (file.patch.is_object(), "expected a mapping"),
    };
    if !fits {
        checker.expected(&format!("{path}.patch"), "this is no such patch", expected);
    }
    if file.resize && (file.status || key.kind != Kind::Pod) {
        checker.wrong(&format!("{path}.resize"), "only a pod can be resized, and not its status");
    }
    let part = match (file.status, file.resize) {
        (true, _) => Part::Status,
        (_, true) => Part::Resize,
        _ => Part::Main,
    };
    Some(Action::Command(Command::Patch { key, kind: file.kind, patch: Rc::new(file.patch.clone()), part }))
}

fn rollout(checker: &mut Checker<'_>, file: &RolloutFile, path: &str) -> Option<Action> {
    let verbs = [
        ("undo", &file.undo, Rollout::Undo(file.to_revision.map_or(0, i64::from))),
        ("pause", &file.pause, Rollout::Pause),
        ("resume", &file.resume, Rollout::Resume),
        ("restart", &file.restart, Rollout::Restart),
        ("status", &file.status, Rollout::Status(file.timeout.map(|span| span.0))),
    ];
    let mut given = verbs.iter().filter_map(|(field, name, verb)| Some((field, name.as_ref()?, verb)));
    let (Some((field, name, verb)), None) = (given.next(), given.next()) else {
        checker.expected(
            path,
            "this does nothing, or two things",
            "expected one of undo, pause, resume, restart and status",
        );
        return None;
    };
    if file.to_revision.is_some() && *field != "undo" {
        checker.wrong(&format!("{path}.toRevision"), "a revision is for undo");
    }
    if file.timeout.is_some() && *field != "status" {
        checker.wrong(&format!("{path}.timeout"), "a timeout is for status");
    }
    let word = if name.contains('/') { name.clone() } else { format!("deployment/{name}") };
    let path = format!("{path}.{field}");
    let key = key(checker, &word, &file.namespace, &path)?;
    if !matches!(key.kind, Kind::Deployment | Kind::DaemonSet | Kind::StatefulSet) {
        let message = format!("a {} has no rollout", key.kind.row().name);
        checker.expected(&path, message, "expected a Deployment, a DaemonSet or a StatefulSet");
        return None;
    }
    Some(Action::Command(Command::Rollout { key, verb: *verb }))
}

fn mark(checker: &mut Checker<'_>, file: &MarkFile, path: &str, mark: Mark) -> Option<Action> {
    let key = key(checker, &file.object, &file.namespace, &format!("{path}.object"))?;
    for (name, value) in &file.set {
        let mut messages = format::label_key(name);
        if mark == Mark::Label {
            messages.extend(format::label_value(value.as_deref().unwrap_or_default()));
        }
        for message in messages {
            checker.wrong(&format!("{path}.set[{name}]"), message);
        }
    }
    let set = file.set.iter().map(|(key, value)| (key.clone(), value.clone())).collect();
    Some(Action::Command(Command::Mark { key, mark, set }))
}

fn taint(checker: &mut Checker<'_>, file: &TaintStepFile, path: &str) -> Option<Action> {
    for message in format::label_key(&file.key) {
        checker.wrong(&format!("{path}.key"), message);
    }
    for message in format::label_value(&file.value) {
        checker.wrong(&format!("{path}.value"), message);
    }
    if file.effect.is_none() && !file.remove {
        checker.expected(path, "the taint has no effect", "expected effect: NoSchedule, PreferNoSchedule or NoExecute");
    }
    Some(Action::Command(Command::Taint {
        node: file.node.clone(),
        key: file.key.clone(),
        value: file.value.clone(),
        effect: file.effect.map(build::effect),
        remove: file.remove,
    }))
}

fn node(checker: &mut Checker<'_>, file: &NodeFile, path: &str) -> Option<Action> {
    let added = file.add.as_ref().map(|pool| add_nodes(checker, pool, &format!("{path}.add")));
    let of = |name: &Option<String>, fault: fn(String) -> Fault| name.clone().map(fault);
    let image = |file: &Option<NodeImageFile>, present: bool| {
        file.clone().map(|NodeImageFile { node, image }| Fault::Image { node, image, present })
    };
    let faults = [
        of(&file.crash, Fault::MachineCrash),
        of(&file.restart, Fault::MachineRestart),
        of(&file.stop_heartbeats, Fault::StopHeartbeats),
        of(&file.resume_heartbeats, Fault::ResumeHeartbeats),
        of(&file.remove, Fault::RemoveNode),
        of(&file.shutdown, Fault::Shutdown),
        of(&file.hang, Fault::Hang),
        of(&file.resume, Fault::Resume),
        file.reboot.clone().map(|node| Fault::Reboot(node, file.down.map_or(REBOOT, |down| down.0))),
        file.clock.as_ref().map(|clock| wrong_clock(checker, clock, &format!("{path}.clock"))),
        added,
        image(&file.add_image, true),
        image(&file.remove_image, false),
        file.add_static_pods.as_ref().map(|pods| static_pods(checker, pods, &format!("{path}.addStaticPods"))),
        file.remove_static_pod.clone().map(|StaticPodFile { node, name }| Fault::RemoveStaticPod { node, name }),
    ];
    if file.down.is_some() && file.reboot.is_none() {
        checker.wrong(&format!("{path}.down"), "this is for reboot");
    }
    let expected = "expected one of crash, restart, reboot, hang, resume, clock, shutdown, stopHeartbeats, \
         resumeHeartbeats, add, remove, addImage, removeImage, addStaticPods and removeStaticPod";
    one_fault(checker, faults.into_iter().flatten(), path, expected)
}

fn wrong_clock(checker: &mut Checker<'_>, file: &ClockFile, path: &str) -> Fault {
    let nanos = |span: Option<Span>| span.map_or(0, |span| i64::try_from(span.0.as_nanos()).unwrap_or(i64::MAX));
    let (ahead, behind, gains, loses) = (nanos(file.ahead), nanos(file.behind), nanos(file.gains), nanos(file.loses));
    if file.ahead.is_some() && file.behind.is_some() || file.gains.is_some() && file.loses.is_some() {
        checker.expected(path, "a clock cannot do both", "expected ahead or behind, gains or loses");
    }
    if loses >= 1_000_000_000 {
        checker.wrong(&format!("{path}.loses"), "a clock that loses a second in every second stands still");
    }
    Fault::Clock(
        file.node.clone(),
        clock::Fault { ahead_ns: ahead - behind, gain_ns: gains - loses, ..Default::default() },
    )
}

fn static_pods(checker: &mut Checker<'_>, file: &StaticPodsFile, path: &str) -> Fault {
    let read = checker.manifests(&file.manifests, &format!("{path}.manifests"), "default");
    let mut pods = Vec::new();
    for manifest in &read {
        match manifest.object.get::<Pod>() {
            Some(pod) => pods.push(StaticPod(pod.clone())),
            None => checker.wrong(&format!("{path}.manifests"), "a static pod is a Pod".to_owned()),
        }
    }
    Fault::AddStaticPods { node: file.node.clone(), pods }
}

fn add_nodes(checker: &mut Checker<'_>, pool: &PoolFile, path: &str) -> Fault {
    let mut complaints = Vec::new();
    let nodes = build::pool_nodes(pool, 0, path, &mut complaints);
    checker.complain(complaints);
    Fault::AddNodes(nodes)
}

fn etcd(checker: &mut Checker<'_>, file: &EtcdStepFile, path: &str) -> Option<Action> {
    let slow_disk = file.slow_disk.as_ref().map(|disk| disk.member.clone());
    let members = [
        ("crash", &file.crash),
        ("restart", &file.restart),
        ("slowDisk.member", &slow_disk),
        ("restoreDisk", &file.restore_disk),
    ];
    for (field, name) in members {
        let Some(name) = name else { continue };
        let number = name.strip_prefix("etcd-").and_then(|number| number.parse::<u32>().ok());
        let word = match field {
            "restart" | "restoreDisk" => name == "all",
            _ => ["leader", "follower"].contains(&name.as_str()),
        };
        if number.is_none() && !word {
            let message = format!("\"{name}\" names no member");
            checker.expected(
                &format!("{path}.{field}"),
                message,
                "expected etcd-0, ..., leader or follower; for restart and restoreDisk etcd-0, ... or all",
            );
        }
    }
    let faults = [
        file.crash.clone().map(Fault::EtcdCrash),
        file.restart.clone().map(Fault::EtcdRestart),
        file.slow_disk.as_ref().map(|disk| Fault::EtcdSlowDisk(disk.member.clone(), disk.fsync.0.clone())),
        file.restore_disk.clone().map(Fault::EtcdRestoreDisk),
    ];
    one_fault(checker, faults.into_iter().flatten(), path, "expected crash, restart, slowDisk or restoreDisk")
}

fn power(
    checker: &mut Checker<'_>,
    file: &PowerFile,
    path: &str,
    crash: fn(String) -> Fault,
    restart: fn(String) -> Fault,
) -> Option<Action> {
    let faults = [file.crash.clone().map(crash), file.restart.clone().map(restart)];
    one_fault(checker, faults.into_iter().flatten(), path, "expected crash or restart")
}

fn one_fault(
    checker: &mut Checker<'_>,
    mut faults: impl Iterator<Item = Fault>,
    path: &str,
    expected: &str,
) -> Option<Action> {
    match (faults.next(), faults.next()) {
        (Some(fault), None) => Some(Action::Fault(fault)),
        _ => {
            checker.expected(path, "this does nothing, or two things", expected);
            None
        }
    }
}

fn partition(checker: &mut Checker<'_>, file: &PartitionFile, path: &str, step: &str) -> Option<Action> {
    if file.between.is_empty() {
        checker.expected(&format!("{path}.between"), "a group without machines", "expected at least one machine");
    }
    Some(Action::Fault(Fault::Partition {
        name: file.name.clone().unwrap_or_else(|| step.to_owned()),
        between: file.between.clone(),
        and: file.and.clone(),
        directions: match file.direction {
            DirectionFile::Both => Directions::Both,
            DirectionFile::FirstToSecond => Directions::FirstToSecond,
        },
    }))
}

/// What a step does, as one would type it.
pub(super) fn describe(action: &Action) -> String {
    match action {
        Action::Note(text) => text.clone(),
        Action::Fault(fault) => describe_fault(fault),
        Action::Command(command) => format!("kubectl {}", describe_command(command)),
    }
}

/// As kubectl takes it: `deployment/web`, with the namespace unless it is `default`.
fn object(key: &ObjectKey) -> String {
    let name = format!("{}/{}", key.kind.row().singular, key.name);
    if key.namespace.is_empty() || key.namespace == "default" { name } else { format!("-n {} {name}", key.namespace) }
}

fn describe_command(command: &Command) -> String {
    match command {
        Command::Create { manifests } | Command::Apply { manifests, .. } => {
            let verb = if let Command::Create { .. } = command { "create" } else { "apply" };
            let names: Vec<String> = manifests.iter().map(|manifest| object(&manifest.key)).collect();
            format!("{verb} {}", names.join(" "))
        }
        Command::Delete { keys, .. } => format!("delete {}", keys.iter().map(object).collect::<Vec<_>>().join(" ")),
        Command::Scale { key, replicas } => format!("scale {} --replicas={replicas}", object(key)),
        Command::SetImage { key, images } => {
            let images: Vec<String> = images.iter().map(|(container, image)| format!("{container}={image}")).collect();
            format!("set image {} {}", object(key), images.join(" "))
        }
        Command::Patch { key, patch, .. } => format!("patch {} -p '{}'", object(key), Value::clone(patch)),
        Command::Rollout { key, verb } => match verb {
            Rollout::Undo(0) => format!("rollout undo {}", object(key)),
            Rollout::Undo(revision) => format!("rollout undo {} --to-revision={revision}", object(key)),
            Rollout::Pause => format!("rollout pause {}", object(key)),
            Rollout::Resume => format!("rollout resume {}", object(key)),
            Rollout::Restart => format!("rollout restart {}", object(key)),
            Rollout::Status(_) => format!("rollout status {}", object(key)),
        },
        Command::Mark { key, mark, set } => {
            let verb = if *mark == Mark::Label { "label" } else { "annotate" };
            let pair = |(key, value): &(String, Option<String>)| match value {
                Some(value) => format!("{key}={value}"),
                None => format!("{key}-"),
            };
            format!("{verb} {} {}", object(key), set.iter().map(pair).collect::<Vec<_>>().join(" "))
        }
        Command::Cordon { node, on } => format!("{} {node}", if *on { "cordon" } else { "uncordon" }),
        Command::Drain { node, options } => format!("drain {node}{}", describe_drain(options)),
        Command::Taint { node, key, value, effect, remove } => {
            let effect = effect.map_or_else(String::new, |effect| format!(":{effect:?}"));
            let value = if value.is_empty() || *remove { String::new() } else { format!("={value}") };
            format!("taint node {node} {key}{value}{effect}{}", if *remove { "-" } else { "" })
        }
    }
}

fn describe_drain(options: &Drain) -> String {
    let flags = [
        (options.ignore_daemon_sets, " --ignore-daemonsets"),
        (options.delete_empty_dir_data, " --delete-emptydir-data"),
        (options.force, " --force"),
        (options.disable_eviction, " --disable-eviction"),
    ];
    let mut text: String = flags.iter().filter(|(given, _)| *given).map(|(_, flag)| *flag).collect();
    if let Some(seconds) = options.grace_seconds {
        text.push_str(&format!(" --grace-period={seconds}"));
    }
    if let Some(timeout) = options.timeout {
        text.push_str(&format!(" --timeout={}s", timeout.as_secs()));
    }
    text
}

fn describe_fault(fault: &Fault) -> String {
    match fault {
        Fault::MachineCrash(name) => format!("machine {name} loses power"),
        Fault::MachineRestart(name) => format!("machine {name} has power again"),
        Fault::ProcessCrash(name) => format!("process {name} is killed"),
        Fault::ProcessRestart(name) => format!("process {name} begins anew"),
        Fault::StopHeartbeats(node) => format!("node {node} falls silent"),
        Fault::ResumeHeartbeats(node) => format!("node {node} is heard again"),
        Fault::Reboot(node, _) => format!("node {node} is rebooted"),
        Fault::Shutdown(node) => format!("node {node} is shut down"),
        Fault::Hang(node) => format!("the kubelet of node {node} hangs"),
        Fault::Resume(node) => format!("the kubelet of node {node} goes on"),
        Fault::Clock(node, _) => format!("the clock of node {node} is set"),
        Fault::AddNodes(nodes) => {
            format!("added: {}", nodes.iter().map(|node| node.name.as_str()).collect::<Vec<_>>().join(", "))
        }
        Fault::RemoveNode(node) => format!("node {node} goes for good"),
        Fault::AddStaticPods { node, pods } => {
            let names: Vec<&str> = pods.iter().map(|pod| pod.0.meta.name.as_str()).collect();
            format!("static pods on node {node}: {}", names.join(", "))
        }
        Fault::RemoveStaticPod { node, name } => format!("static pod {name} is taken from node {node}"),
        Fault::Image { node, image, present: true } => format!("image {image} is put on node {node}"),
        Fault::Image { node, image, present: false } => format!("image {image} is taken from node {node}"),
        Fault::EtcdCrash(member) => format!("etcd member {member} loses power"),
        Fault::EtcdRestart(member) => format!("etcd member {member} begins anew"),
        Fault::EtcdSlowDisk(member, _) => format!("the disk of etcd member {member} becomes slow"),
        Fault::EtcdRestoreDisk(member) => format!("the disk of etcd member {member} is as at first"),
        Fault::Partition { name, between, and, directions } => {
            let sign = if *directions == Directions::Both { "|" } else { ">|" };
            let and = if and.is_empty() { "all others".to_owned() } else { and.join(", ") };
            format!("partition {name}: {} {sign} {and}", between.join(", "))
        }
        Fault::Heal(name) => format!("partition {name} ends"),
        Fault::Signal { name, amount } => {
            format!("signal {name} is now {}", Quantity::from_milli(*amount, Format::DecimalSi))
        }
    }
}
