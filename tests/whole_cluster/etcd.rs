//! Members of etcd that fail, are slow or are cut off.

use kubesim::api::kind::Kind;
use kubesim::api::node::Node;
use kubesim::apiserver::protocol::{Answer, ListRevision, Operation, Scope};
use kubesim::cluster::options::KubeletKind;
use kubesim::engine::distribution::Distribution;
use kubesim::engine::network::Directions;
use kubesim::engine::time::SimDuration;

use crate::support::{Bed, as_seconds, config_map, options, refusal};
use crate::writer::Writer;
use crate::{assert_in_budget, repeatable, ten_of_ten, until_rolled_out};

#[test]
fn a_slow_disk_of_one_etcd_member_costs_nothing_and_slow_ones_of_two_cost_every_write_until_they_are_restored() {
    repeatable(|seed| {
        let mut bed = Bed::ready(options(1, KubeletKind::Real), seed);
        let mut number = 0;
        // Members are asked by turns, and one whose disk is slow is slow to answer: of three writes the fastest tells how long the
        // quorum takes.
        let mut write_takes = |bed: &mut Bed| {
            let three = [(); 3].map(|()| {
                number += 1;
                let (start, object) = (bed.now(), config_map(&format!("note-{number}")));
                bed.request(Operation::Create { object, dry_run: false }).expect("it is created");
                bed.since(start)
            });
            three.into_iter().fold(f64::INFINITY, f64::min)
        };
        let slow = || Some(Distribution::Constant(SimDuration::from_millis(100)));
        let first = leader(&bed);
        let followers: Vec<String> =
            (0..3).map(|place| format!("etcd-{place}")).filter(|name| *name != first).collect();

        bed.cluster.set_fsync(&followers[0], slow()).expect("it is there");
        assert!(write_takes(&mut bed) < 0.05, "the leader and the other one are a quorum");
        bed.cluster.set_fsync(&followers[1], slow()).expect("it is there");
        assert!(write_takes(&mut bed) > 0.1, "a quorum needs one of the slow ones");

        bed.cluster.crash_machine(&followers[1]).expect("it is there");
        bed.run(3);
        bed.cluster.restart_machine(&followers[1]).expect("it is there");
        bed.run(10);
        assert!(write_takes(&mut bed) > 0.1, "a disk is no faster for a power loss");
        bed.cluster.crash_process(&followers[0]).expect("it is there");
        bed.run(1);
        assert!(write_takes(&mut bed) > 0.1, "the one that began anew is the quorum's other half");
        bed.cluster.restart_process(&followers[0]).expect("it is there");

        bed.cluster.set_fsync(&followers[1], None).expect("it is there");
        bed.run(10);
        assert!(write_takes(&mut bed) < 0.05, "one slow disk costs nothing again");
        let unknown = bed.cluster.set_fsync("etcd-3", slow()).expect_err("there are three");
        assert_eq!(unknown.to_string(), "there is no etcd member \"etcd-3\" (there are: etcd-0, etcd-1, etcd-2)");
        bed
    });
}

/// The machine of the etcd member that leads.
fn leader(bed: &Bed) -> String {
    let member = bed.leaders.iter().rev().find_map(|(_, member, _)| *member).expect("a leader was elected");
    format!("etcd-{member}")
}

#[test]
fn an_etcd_leader_that_crashes_during_a_rollout_loses_nothing() {
    repeatable(|seed| {
        let mut bed = ten_of_ten(options(10, KubeletKind::Real), seed);
        let mut writer = Writer::new(&bed);
        bed.set_image("web", "app", "app:v2");
        writer.go_on(&mut bed, 2, assert_in_budget);
        let (first, before) = (leader(&bed), writer.acknowledged.len());
        assert!(before >= 5, "{before} writes were acknowledged");
        let crashed = bed.now();
        bed.cluster.crash_machine(&first).expect("it is there");
        writer.go_on(&mut bed, 20, assert_in_budget);
        assert_ne!(leader(&bed), first);
        let elected = bed.leaders.iter().find(|(at, member, _)| *at > crashed && member.is_some());
        let vacancy = as_seconds(elected.expect("there is a new leader").0) - as_seconds(crashed);
        assert!((0.7..=2.5).contains(&vacancy), "a new leader after {vacancy} s");
        bed.cluster.restart_machine(&first).expect("it is there");
        writer.go_on(&mut bed, 5, assert_in_budget);
        until_rolled_out(&mut bed, 60);
        assert!(writer.acknowledged.len() > before + 50, "writing went on: {}", writer.acknowledged.len());
        bed.run(61);
        writer.check(&mut bed);
        bed
    });
}

#[test]
fn etcd_does_without_a_minority_and_refuses_writes_without_a_majority() {
    repeatable(|seed| {
        let mut bed = ten_of_ten(options(10, KubeletKind::Real), seed);
        // A follower goes first.
        let first = leader(&bed);
        let others: Vec<String> = (0..3).map(|place| format!("etcd-{place}")).filter(|name| *name != first).collect();
        let machines = bed.cluster.topology().machine_names().to_vec();
        let isolate = |bed: &mut Bed, name: &String| {
            let others: Vec<String> = machines.iter().filter(|machine| *machine != name).cloned().collect();
            bed.cluster.partition(std::slice::from_ref(name), &others, Directions::Both).expect("they are there")
        };
        // A follower alone is missed by those who have sent it something: each third write, until the connection that nobody
        // acknowledges anything on is given up.
        let mut writer = Writer::new(&bed);
        let one = isolate(&mut bed, &others[0]);
        writer.go_on(&mut bed, 11, |_| {});
        let (refused, acknowledged) = (writer.refused, writer.acknowledged.len());
        assert!((10..=20).contains(&refused), "{refused} writes were refused");
        assert_eq!(refused + acknowledged, writer.requests.len(), "nothing waits any more");
        writer.go_on(&mut bed, 30, |_| {});
        assert_eq!((writer.refused, writer.acknowledged.len()), (refused, acknowledged + 150));
        assert_eq!(leader(&bed), first, "and does not depose the leader");

        // Two are missed: nothing is written any more, but what runs runs on.
        let two = isolate(&mut bed, &others[1]);
        let start = bed.now();
        let create = |name: &str| Operation::Create { object: config_map(name), dry_run: false };
        let lost = ["lost-1", "lost-2", "lost-3", "lost-4"].map(|name| bed.send(create(name)));
        let answers = lost.map(|request| refusal(bed.answer(request)).message);
        let texts =
            ["etcdserver: request timed out", "rpc error: code = Unavailable desc = error reading from server: EOF"];
        assert!(answers.iter().all(|message| texts.contains(&message.as_str())), "{answers:?}");
        assert!(texts.iter().all(|text| answers.iter().any(|message| message == text)), "both are asked: {answers:?}");
        let took = bed.since(start);
        assert!((6.9..=11.0).contains(&took), "refused after {took} s");
        // Half a minute later the caches are given up.
        let at = ListRevision::Any;
        let list = Operation::List { scope: Scope::all(Kind::Pod), limit: 0, continue_token: None, at };
        let Ok(Answer::List { items, .. }) = bed.request(list) else { panic!("a cache can be read") };
        assert_eq!(items.len(), 10);
        bed.run(30);
        let revision = bed.writes.last().map(|write| write.revision);
        let later = refusal(bed.request(create("lost-too")));
        let texts = ["etcdserver: request timed out", "context deadline exceeded"];
        assert!(texts.iter().any(|text| later.message.contains(text)), "{}", later.message);
        bed.run(60);
        assert_eq!(bed.writes.last().map(|write| write.revision), revision, "nothing was written");
        let running: usize = bed.cluster.nodes().iter().map(|node| node.runtime().running()).sum();
        assert_eq!(running, 10, "all containers run");

        // Then all is well again.
        bed.cluster.heal(one);
        bed.cluster.heal(two);
        bed.run(15);
        bed.request(create("found")).expect("writes are taken again");
        bed.set_image("web", "app", "app:v2");
        bed.until("the update is complete", 120, |bed| bed.is_rolled_out("web"));
        bed.until("all nodes are ready", 60, |bed| {
            bed.all::<Node>().iter().all(|node| node.is_ready() && node.taints.is_empty())
        });
        writer.check(&mut bed);
        bed
    });
}
