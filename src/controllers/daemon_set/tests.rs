//! DaemonSets as a whole: what looks at one lead to.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::*;
use crate::api::meta::{Deletion, Timestamp};
use crate::api::node::{Node, Taint, TaintEffect};
use crate::api::pod::{PodPhase, PodStatus};
use crate::api::revision::ControllerRevision;
use crate::api::shared::Shared;
use crate::controllers::testing::{self, Server};
use crate::engine::random::{Seed, Stream};

fn key() -> ObjectKey {
    ObjectKey::new(Kind::DaemonSet, "default", "agent")
}

fn controller() -> DaemonSetController {
    DaemonSetController::new(&Config::default())
}

fn set(strategy: Value, template: Value) -> DaemonSet {
    let mut spec = json!({"containers": [{"name": "app", "image": "agent:v1"}]});
    for (field, value) in template.as_object().expect("a mapping") {
        spec[field] = value.clone();
    }
    let full = json!({
        "metadata": {
            "name": "agent", "namespace": "default", "generation": 1, "uid": "00000000-0000-4000-8000-000000000011",
            "annotations": {"deprecated.daemonset.template.generation": "1"}
        },
        "spec": {
            "selector": {"matchLabels": {"app": "agent"}}, "updateStrategy": strategy,
            "template": {"metadata": {"labels": {"app": "agent"}}, "spec": spec}
        }
    });
    let object = Object::from_json(Kind::DaemonSet, full).expect("a set");
    (**object.get::<DaemonSet>().expect("a set")).clone()
}

fn server(nodes: usize, set: DaemonSet) -> Server {
    let mut server = Server::at(100);
    for place in 0..nodes {
        let mut node = testing::node(&format!("node-{place}"));
        node.meta.uid = crate::api::meta::Uid(70 + place as u128);
        server.put(Object::Node(Rc::new(node)));
    }
    server.put(set.boxed());
    server
}

/// Taints a node if it is there.
fn taint(server: &mut Server, node: &str, effect: Option<TaintEffect>) {
    if server.get::<Node>("", node).is_none() {
        return;
    }
    let taint = |effect| Taint { key: "trouble".into(), value: Name::EMPTY, effect, time_added: None };
    server.edit::<Node>("", node, |node| node.taints = effect.map(taint).into_iter().collect());
}

/// Lets pods be bound and become ready, and those that are told to go be gone.
fn run_pods(server: &mut Server) {
    for pod in server.all::<Pod>() {
        if pod.meta.is_deleting() {
            server.vanish(&owner::key_of(&*pod));
        } else if !pod.status.is_ready() && !pod.is_terminal() {
            let since = server.seconds as i64;
            server.edit::<Pod>("default", &pod.meta.name, |pod| start(pod, since));
        }
    }
}

fn start(pod: &mut Pod, since: i64) {
    pod.node = pod.only_node.as_deref().cloned();
    pod.status = PodStatus { phase: PodPhase::Running, ..testing::ready_pod("x", since).status };
}

fn status(server: &Server) -> crate::api::workload::DaemonSetStatus {
    server.get::<DaemonSet>("default", "agent").expect("there").status.clone()
}

fn images(server: &Server) -> BTreeMap<String, String> {
    let image = |pod: &Rc<Pod>| pod.spec.full.containers[0].image.clone().unwrap_or_default();
    let live = server.all::<Pod>().into_iter().filter(|pod| !pod.meta.is_deleting());
    live.map(|pod| (pod.only_node.as_ref().expect("pinned").to_string(), image(&pod))).collect()
}

fn set_image(server: &mut Server, image: &str) {
    server.edit::<DaemonSet>("default", "agent", |set| {
        let template = Rc::make_mut(&mut set.template);
        Rc::make_mut(&mut template.spec).full.containers[0].image = Some(image.to_owned());
        set.meta.generation += 1;
        let number = set.meta.generation.to_string();
        set.meta.annotations = set.meta.annotations.with("deprecated.daemonset.template.generation", number);
    });
}

#[test]
fn a_template_that_names_a_node_is_for_that_node_and_its_pod_is_there_from_the_beginning() {
    let mut server = server(3, set(json!({"type": "RollingUpdate"}), json!({"nodeName": "node-1"})));
    server.reconcile(&controller(), &key());
    let pods = server.all::<Pod>();
    assert_eq!(pods.len(), 1);
    assert_eq!(pods[0].node.as_deref(), Some("node-1"));
    assert_eq!(pods[0].only_node.as_deref().map(Name::as_str), Some("node-1"), "it says so in its affinity as well");
    server.reconcile(&controller(), &key());
    assert_eq!(status(&server).desired_number_scheduled, 1);
    let set = Object::DaemonSet(server.get::<DaemonSet>("default", "agent").expect("there").clone());
    assert_eq!(set.to_json()["spec"]["template"]["spec"]["nodeName"], "node-1");
}

#[test]
fn each_node_gets_a_pod_that_may_go_nowhere_else_and_shares_its_specification() {
    let mut server = server(3, set(json!(null), json!({})));
    assert_eq!(server.reconcile(&controller(), &key()), Again::OnChange);
    let revision = server.all::<ControllerRevision>()[0].clone();
    let hash = revision.meta.labels.get(&REVISION_LABEL).expect("a hash").clone();
    assert_eq!((revision.revision, &*revision.meta.name), (1, &*format!("agent-{hash}")));
    let pods = server.all::<Pod>();
    let targets: Vec<_> = pods.iter().filter_map(|pod| pod.only_node.as_deref().map(Name::as_str)).collect();
    assert_eq!(targets, ["node-0", "node-1", "node-2"]);
    for pod in &pods {
        assert!(Rc::ptr_eq(&pod.spec, &pods[0].spec));
        assert_eq!(pod.meta.labels.get(&REVISION_LABEL), Some(&hash));
        assert_eq!(pod.meta.labels.get("pod-template-generation").map(Name::as_str), Some("1"));
        assert_eq!(pod.spec.full.tolerations.as_ref().map(Vec::len), Some(6));
    }
    let shown = Object::Pod(pods[1].clone()).to_json();
    let term = &shown["spec"]["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"];
    assert_eq!(
        term["nodeSelectorTerms"],
        json!([{"matchFields": [{"key": "metadata.name", "operator": "In", "values": ["node-1"]}]}])
    );
    let again = Object::from_json(Kind::Pod, shown).expect("a pod");
    let again = again.get::<Pod>().expect("a pod");
    assert_eq!((again.only_node.as_deref().map(Name::as_str), &again.spec.full.affinity), (Some("node-1"), &None));
    run_pods(&mut server);
    server.reconcile(&controller(), &key());
    let counted = status(&server);
    assert_eq!((counted.desired_number_scheduled, counted.current_number_scheduled, counted.number_ready), (3, 3, 3));
    assert_eq!((counted.number_available, counted.updated_number_scheduled, counted.observed_generation), (3, 3, 1));
    server.writes.clear();
    server.reconcile(&controller(), &key());
    assert_eq!(server.writes, [] as [&str; 0], "all is as it should be");
}

#[test]
fn labels_affinity_and_taints_decide_where_pods_run_and_stay() {
    let affinity = json!({"nodeSelector": {"disk": "ssd"}});
    let mut server = server(4, set(json!(null), affinity));
    for node in ["node-0", "node-1", "node-2"] {
        server.edit::<Node>("", node, |node| node.meta.labels = node.meta.labels.with("disk", "ssd"));
    }
    taint(&mut server, "node-1", Some(TaintEffect::NoSchedule));
    server.edit::<Node>("", "node-2", |node| node.unschedulable = true);
    server.reconcile(&controller(), &key());
    assert_eq!(images(&server).keys().collect::<Vec<_>>(), ["node-0", "node-2"], "a cordoned node has its pod");
    run_pods(&mut server);
    taint(&mut server, "node-0", Some(TaintEffect::NoSchedule));
    taint(&mut server, "node-2", Some(TaintEffect::NoExecute));
    server.reconcile(&controller(), &key());
    assert_eq!(images(&server).keys().collect::<Vec<_>>(), ["node-0"], "NoSchedule drives nobody away");
    let counted = status(&server);
    assert_eq!((counted.desired_number_scheduled, counted.number_misscheduled), (0, 2));
}

#[test]
fn a_taint_wakes_only_those_that_gain_or_lose_a_pod_by_it_or_have_some_misplaced() {
    let mut server = server(2, set(json!(null), json!({})));
    server.reconcile(&controller(), &key());
    run_pods(&mut server);
    server.reconcile(&controller(), &key());
    let wakes = |server: &mut Server, effect: Option<TaintEffect>| {
        let old = Object::Node(server.get::<Node>("", "node-0").expect("there").clone());
        taint(server, "node-0", effect);
        let new = Object::Node(server.get::<Node>("", "node-0").expect("there").clone());
        let mut woken = 0;
        let change = Change::Updated { old: &old, new: &new };
        controller().on_change(change, &server.cache.view(), &mut |_, _| woken += 1);
        woken
    };
    assert_eq!(wakes(&mut server, Some(TaintEffect::NoSchedule)), 0, "it stays, and the status stays as it is");
    assert_eq!(status(&server).desired_number_scheduled, 2);
    assert_eq!(wakes(&mut server, Some(TaintEffect::NoExecute)), 1);
    server.edit::<DaemonSet>("default", "agent", |set| set.status.number_misscheduled = 1);
    assert_eq!(wakes(&mut server, None), 1);
    let node = Object::Node(Rc::new(testing::node("node-9")));
    let mut woken = 0;
    controller().on_change(Change::Added(&node), &server.cache.view(), &mut |_, _| woken += 1);
    assert_eq!(woken, 1, "a new node gets a pod");
}

#[test]
fn an_update_replaces_one_pod_after_the_other() {
    let mut server = server(3, set(json!(null), json!({})));
    let controller = controller();
    for _ in 0..2 {
        server.reconcile(&controller, &key());
        run_pods(&mut server);
    }
    set_image(&mut server, "agent:v2");
    let mut changed = Vec::new();
    for _ in 0..20 {
        server.reconcile(&controller, &key());
        let missing = 3 - server
            .all::<Pod>()
            .iter()
            .filter(|pod| pod.is_available(0, server.now().timestamp()) && !pod.meta.is_deleting())
            .count();
        assert!(missing <= 1, "{missing} are missing");
        run_pods(&mut server);
        let new = images(&server).values().filter(|image| *image == "agent:v2").count();
        if changed.last() != Some(&new) {
            changed.push(new);
        }
    }
    assert_eq!(changed, [0, 1, 2, 3]);
    let revisions: Vec<_> = server.all::<ControllerRevision>().iter().map(|it| it.revision).collect();
    assert_eq!(revisions.len(), 2);
    // Going back makes the old revision the newest, and its pods need not be made of anything new.
    set_image(&mut server, "agent:v1");
    server.reconcile(&controller, &key());
    let mut numbers: Vec<_> = server.all::<ControllerRevision>().iter().map(|it| it.revision).collect();
    numbers.sort_unstable();
    assert_eq!(numbers, [2, 3]);
}

#[test]
fn an_old_pod_of_a_node_that_is_gone_holds_a_surge_until_it_goes_too() {
    let surge = json!({"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}});
    let mut server = server(2, set(surge, json!({})));
    let controller = controller();
    server.reconcile(&controller, &key());
    run_pods(&mut server);
    server.vanish(&ObjectKey::new(Kind::Node, Name::EMPTY, "node-1"));
    set_image(&mut server, "agent:v2");
    let again = server.reconcile(&controller, &key());
    let why = "couldn't get node for nodeName \"node-1\": node \"node-1\" not found";
    assert_eq!(again, Again::BackOff(why.to_owned()));
    assert_eq!(server.all::<Pod>().len(), 2, "nothing new");
    let orphan = server.all::<Pod>().into_iter().find(|pod| pod.node.as_deref() == Some("node-1")).expect("orphan");
    server.vanish(&owner::key_of(&*orphan));
    server.reconcile(&controller, &key());
    assert_eq!(server.all::<Pod>().len(), 2, "old and new beside each other on the node that is left");
}

#[test]
fn a_surge_runs_the_new_pod_beside_the_old_one_until_it_is_available() {
    let surge = json!({"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}});
    let mut server = server(2, set(surge, json!({})));
    let controller = controller();
    for _ in 0..2 {
        server.reconcile(&controller, &key());
        run_pods(&mut server);
    }
    set_image(&mut server, "agent:v2");
    server.reconcile(&controller, &key());
    assert_eq!(server.all::<Pod>().len(), 3, "one more");
    server.reconcile(&controller, &key());
    assert_eq!(server.all::<Pod>().len(), 3, "and no other before it is ready");
    for _ in 0..12 {
        run_pods(&mut server);
        server.reconcile(&controller, &key());
        let ready = server.all::<Pod>().iter().filter(|pod| pod.status.is_ready() && !pod.meta.is_deleting()).count();
        assert!(ready >= 2);
    }
    assert!(images(&server).values().all(|image| image == "agent:v2"));
    assert_eq!(server.all::<Pod>().len(), 2);
}

#[test]
fn on_delete_waits_for_somebody_to_delete_a_pod() {
    let mut server = server(2, set(json!({"type": "OnDelete"}), json!({})));
    let controller = controller();
    server.reconcile(&controller, &key());
    run_pods(&mut server);
    set_image(&mut server, "agent:v2");
    server.writes.clear();
    server.reconcile(&controller, &key());
    assert!(!server.writes.iter().any(|write| write.starts_with("delete")), "{:?}", server.writes);
    assert_eq!(status(&server).updated_number_scheduled, 0);
    let first = server.all::<Pod>()[0].clone();
    server.vanish(&owner::key_of(&*first));
    server.reconcile(&controller, &key());
    assert_eq!(images(&server).values().filter(|image| *image == "agent:v2").count(), 1);
}

#[test]
fn a_failed_pod_is_replaced_at_once_and_the_next_one_after_ever_longer_waits() {
    let mut server = server(1, set(json!(null), json!({})));
    server.deletes_pods_at_once = true;
    let controller = controller();
    let fail = |server: &mut Server| {
        let name = server.all::<Pod>()[0].meta.name.clone();
        server.edit::<Pod>("default", &name, |pod| pod.status.phase = PodPhase::Failed);
        name
    };
    server.reconcile(&controller, &key());
    server.reconcile(&controller, &key());
    let name = fail(&mut server);
    server.reconcile(&controller, &key());
    let told = format!("FailedDaemonPod Found failed daemon pod default/{name} on node node-0, will try to kill it");
    assert!(server.events.contains(&told), "{:?}", server.events);
    server.reconcile(&controller, &key());
    let name = fail(&mut server);
    assert_eq!(server.reconcile(&controller, &key()), Again::After(SimDuration::from_secs(1)));
    assert!(server.get::<Pod>("default", &name).is_some(), "it waits");
    server.seconds += 1;
    server.reconcile(&controller, &key());
    assert!(server.get::<Pod>("default", &name).is_none());
    server.reconcile(&controller, &key());
    fail(&mut server);
    assert_eq!(server.reconcile(&controller, &key()), Again::After(SimDuration::from_secs(2)));
}

#[test]
fn what_is_expected_holds_back_all_but_the_counts() {
    let mut server = server(2, set(json!(null), json!({})));
    server.reconcile(&controller(), &key());
    set_image(&mut server, "agent:v2");
    server.writes.clear();
    let plan = controller().reconcile_expecting(&server.cache.view(), &key(), server.now());
    server.carry_out(plan);
    assert_eq!(server.writes.len(), 2, "{:?}", server.writes);
    assert!(server.writes[0].starts_with("create controllerrevision/"));
    assert_eq!(server.writes[1], "update status of daemonset/default/agent");
    assert_eq!(status(&server).observed_generation, 1, "the new template was not acted upon");
}

#[test]
fn pods_for_nodes_that_are_gone_and_one_too_many_on_a_node_go() {
    let mut server = server(2, set(json!(null), json!({})));
    let controller = controller();
    server.reconcile(&controller, &key());
    let mut twin = (*server.all::<Pod>()[0]).clone();
    twin.meta.name = "agent-twin".into();
    twin.meta.uid = crate::api::meta::Uid(4711);
    twin.meta.created = Timestamp(50);
    server.put(twin.boxed());
    server.vanish(&ObjectKey::new(Kind::Node, "", "node-1"));
    server.writes.clear();
    server.reconcile(&controller, &key());
    let deleted: Vec<_> = server.writes.iter().filter(|write| write.starts_with("delete")).collect();
    assert_eq!(deleted.len(), 2, "{deleted:?}");
    assert!(server.get::<Pod>("default", "agent-twin").is_some_and(|pod| !pod.meta.is_deleting()), "the oldest stays");
}

/// Somebody does something, or something happens, at random.
fn disturb(server: &mut Server, chance: &mut Stream, versions: &mut u32) {
    let pods = server.all::<Pod>();
    let node = format!("node-{}", chance.below(6));
    match chance.below(10) {
        0 if *versions < 12 => {
            *versions += 1;
            let image = format!("agent:v{versions}");
            set_image(server, &image);
        }
        1 => taint(server, &node, Some(TaintEffect::NoSchedule)),
        2 => taint(server, &node, Some(TaintEffect::NoExecute)),
        3 | 4 => taint(server, &node, None),
        5 => server.seconds += chance.below(4),
        _ if pods.is_empty() => {}
        _ => {
            let pod = pods[chance.below(pods.len() as u64) as usize].clone();
            let since = server.seconds as i64;
            if pod.meta.is_deleting() {
                server.vanish(&owner::key_of(&*pod));
            } else if chance.ratio(1, 12) {
                server.edit::<Pod>("default", &pod.meta.name, |pod| pod.status.phase = PodPhase::Failed);
            } else if chance.ratio(1, 12) {
                let deletion = Deletion { timestamp: Timestamp(since + 30), grace_seconds: Some(30) };
                server.edit::<Pod>("default", &pod.meta.name, |pod| pod.meta.deletion = Some(Box::new(deletion)));
            } else if !pod.is_terminal() {
                server.edit::<Pod>("default", &pod.meta.name, |pod| start(pod, since));
            }
        }
    }
}

/// The nodes that are to have a pod, and how many of them have none that is available.
fn missing(server: &Server) -> usize {
    let set = server.get::<DaemonSet>("default", "agent").expect("there");
    let eligibility = Eligibility::of(set);
    let (nodes, pods, today) = (server.all::<Node>(), server.all::<Pod>(), server.now().timestamp());
    let has_pod = |node: &Rc<Node>| {
        let is_there = |pod: &Rc<Pod>| pod.node.as_ref() == Some(&node.meta.name);
        pods.iter().any(|pod| is_there(pod) && pod.is_active() && pod.is_available(set.min_ready_seconds, today))
    };
    nodes.iter().filter(|node| eligibility.of_node(node).0 && !has_pod(node)).count()
}

#[test]
fn a_node_has_at_most_one_live_pod_two_in_a_surge_and_no_more_than_allowed_are_missing_by_its_own_doing() {
    for seed in 0..60 {
        let mut chance = Seed(seed).stream("daemon set", "test");
        let surges = chance.ratio(1, 2);
        let allowed = 1 + chance.below(3) as usize;
        let (unavailable, surge) = if surges { (0, allowed) } else { (allowed, 0) };
        let rolling = json!({"maxUnavailable": unavailable, "maxSurge": surge});
        let mut set = set(json!({"type": "RollingUpdate", "rollingUpdate": rolling}), json!({}));
        set.min_ready_seconds = chance.below(3) as i32;
        let mut server = server(6, set);
        let (controller, mut versions) = (controller(), 1);
        for _ in 0..250 {
            disturb(&mut server, &mut chance, &mut versions);
            if chance.ratio(1, 3) {
                continue;
            }
            let (before, live_before) = (missing(&server), server.all::<Pod>());
            server.reconcile(&controller, &key());
            let after = missing(&server);
            let limit = if surges { 0 } else { allowed };
            assert!(after <= before.max(limit), "seed {seed}: {after} missing, {before} before, {limit} allowed");
            let mut on_node: BTreeMap<Name, usize> = BTreeMap::new();
            for pod in server.all::<Pod>().iter().filter(|pod| pod.is_active()) {
                *on_node.entry(pod.only_node.as_deref().cloned().expect("pinned")).or_default() += 1;
            }
            let most = on_node.values().copied().max().unwrap_or(0);
            assert!(most <= 1 + usize::from(surges), "seed {seed}: {most} on a node, of {}", live_before.len());
        }
        // Once nothing more happens it settles, with a new pod on each node.
        (0..6).for_each(|place| taint(&mut server, &format!("node-{place}"), None));
        for _ in 0..80 {
            server.seconds += 5;
            run_pods(&mut server);
            server.reconcile(&controller, &key());
        }
        let newest = format!("agent:v{versions}");
        assert!(images(&server).len() == 6 && images(&server).values().all(|image| *image == newest), "seed {seed}");
    }
}

/// What follows from a look: the counts, the nodes that get a pod, the pods that go.
fn follows(surveys: &mut Surveys, server: &Server, hash: &Name) -> String {
    let (set, now) = (server.get::<DaemonSet>("default", "agent").expect("there"), server.now());
    let seen = surveys.look(&server.cache.view(), set, hash, now.timestamp());
    let nodes = Nodes::of(&seen, &seen.kin);
    let due = manage::decide(set, &nodes, hash, &mut BackOff::default(), now);
    let rolls = rolling::decide(set, &nodes, hash, now);
    let names = |pods: &[Rc<Pod>]| pods.iter().map(|pod| pod.meta.name.to_string()).collect::<Vec<_>>();
    let rolls = rolls.map(|due| (due.create, names(&due.delete)));
    let counted = status::count(set, &nodes, hash, now);
    format!(
        "{counted:?} {:?} {:?} {:?} {rolls:?} {:?}",
        due.create,
        names(&due.delete),
        due.events,
        names(&nodes.leaving)
    )
}

#[test]
fn what_follows_from_a_survey_that_is_kept_follows_from_one_made_anew() {
    let mut settled = 0;
    for seed in 0..16 {
        let mut chance = Seed(seed).stream("daemon set", "survey");
        let surge = chance.below(2);
        let rolling = json!({"maxUnavailable": 1 - surge, "maxSurge": surge});
        let mut set = set(json!({"type": "RollingUpdate", "rollingUpdate": rolling}), json!({}));
        set.min_ready_seconds = 2 * chance.below(2) as i32;
        let mut server = server(6, set);
        let (controller, mut versions, mut kept) = (controller(), 1, Surveys::default());
        for step in 0..300 {
            disturb(&mut server, &mut chance, &mut versions);
            let node = format!("node-{}", chance.below(7));
            match chance.below(16) {
                0 => server.put(Object::Node(Rc::new(testing::node(&node)))),
                1 => server.vanish(&ObjectKey::new(Kind::Node, "", &node)),
                2 if !server.all::<Pod>().is_empty() => {
                    let name = server.all::<Pod>()[0].meta.name.clone();
                    server.edit::<Pod>("default", &name, |pod| pod.meta.owners = Shared::NONE);
                }
                3 => {
                    let seconds = 2 * chance.below(2) as i32;
                    server.edit::<DaemonSet>("default", "agent", |set| set.min_ready_seconds = seconds);
                }
                4..12 => drop(server.reconcile(&controller, &key())),
                _ => {}
            }
            let newest = server.all::<ControllerRevision>().into_iter().max_by_key(|revision| revision.revision);
            let hash = newest.and_then(|it| it.meta.labels.get(&REVISION_LABEL).cloned()).unwrap_or_default();
            if chance.ratio(1, 3) {
                continue;
            }
            let anew = follows(&mut Surveys::default(), &server, &hash);
            assert_eq!(follows(&mut kept, &server, &hash), anew, "seed {seed}, step {step}");
            let set = server.get::<DaemonSet>("default", "agent").expect("there");
            settled += kept.look(&server.cache.view(), set, &hash, server.now().timestamp()).settled;
        }
    }
    assert!(settled > 500, "{settled} settled nodes were not looked at");
}
