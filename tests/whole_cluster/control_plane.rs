//! API servers, controller manager and scheduler that die and begin anew.

use kubesim::api::kind::Kind;
use kubesim::api::meta::ObjectKey;
use kubesim::api::network::EndpointSlice;
use kubesim::api::node::Node;
use kubesim::cluster::options::{ClusterOptions, KubeletKind};

use crate::support::{Bed, options};
use crate::writer::Writer;
use crate::{assert_in_budget, repeatable, ten_of_ten, until_rolled_out};

#[test]
fn one_of_two_api_servers_may_crash_during_a_rollout() {
    repeatable(|seed| {
        let two = ClusterOptions { api_servers: 2, ..options(10, KubeletKind::Real) };
        let mut bed = ten_of_ten(two, seed);
        let mut writer = Writer::new(&bed);
        bed.set_image("web", "app", "app:v2");
        writer.go_on(&mut bed, 2, assert_in_budget);
        bed.cluster.crash_process("kube-apiserver-0").expect("it is there");
        writer.go_on(&mut bed, 10, assert_in_budget);
        bed.cluster.restart_process("kube-apiserver-0").expect("it is there");
        until_rolled_out(&mut bed, 60);
        assert_eq!(bed.images(), [("app:v2".to_owned(), 10)].into());
        bed.cluster.crash_process("kube-apiserver-1").expect("it is there");
        writer.go_on(&mut bed, 5, |_| {});
        bed.cluster.restart_process("kube-apiserver-1").expect("it is there");
        bed.set_image("web", "app", "app:v3");
        until_rolled_out(&mut bed, 60);
        assert!(writer.acknowledged.len() > 60, "writing went on: {}", writer.acknowledged.len());
        bed.run(61);
        writer.check(&mut bed);
        bed
    });
}

#[test]
fn the_controller_manager_and_the_scheduler_may_crash_during_a_rollout() {
    repeatable(|seed| {
        let mut bed = ten_of_ten(options(10, KubeletKind::Real), seed);
        bed.set_image("web", "app", "app:v2");
        bed.run(3);
        assert!(!bed.is_rolled_out("web"), "it is on the way");
        for process in ["kube-controller-manager", "kube-scheduler"] {
            bed.cluster.crash_process(process).expect("it is there");
        }
        bed.run(2);
        let frozen = bed.images();
        bed.run(10);
        assert_eq!(bed.images(), frozen, "nothing goes on without them");
        assert!(frozen.len() == 2, "both images are there: {frozen:?}");
        for process in ["kube-controller-manager", "kube-scheduler"] {
            bed.cluster.restart_process(process).expect("it is there");
        }
        until_rolled_out(&mut bed, 60);
        assert_eq!(bed.images(), [("app:v2".to_owned(), 10)].into());
        bed
    });
}

#[test]
fn every_node_says_how_long_its_kubelet_may_believe_what_it_has_read() {
    let mut bed = Bed::ready(options(3, KubeletKind::Real), 7);
    bed.run(2);
    for node in bed.all::<Node>() {
        let seconds = node.meta.annotations.get("node.alpha.kubernetes.io/ttl");
        assert_eq!(seconds.map(|seconds| seconds.to_string()).as_deref(), Some("0"), "{}", node.meta.name);
    }
}

#[test]
fn endpoints_that_a_user_writes_are_mirrored_in_a_slice_and_go_with_it() {
    let mut bed = Bed::ready(options(1, KubeletKind::Real), 7);
    let endpoints = |address: &str| {
        let address = format!("addresses: [{{ip: {address}}}], ports: [{{port: 5432}}]");
        format!("{{apiVersion: v1, kind: Endpoints, metadata: {{name: db}}, subsets: [{{{address}}}]}}")
    };
    bed.apply("{apiVersion: v1, kind: Service, metadata: {name: db}, spec: {ports: [{port: 5432}]}}");
    bed.apply(&endpoints("192.0.2.1"));
    let addresses = |bed: &Bed| -> Vec<String> {
        let slices = bed.all::<EndpointSlice>();
        let of_db = slices.iter().filter(|slice| slice.meta.name.starts_with("db-"));
        of_db.flat_map(|slice| &slice.endpoints).flat_map(|it| it.addresses.iter().map(String::from)).collect()
    };
    bed.until("there is a slice", 5, |bed| addresses(bed) == ["192.0.2.1"]);
    bed.apply(&endpoints("192.0.2.2"));
    bed.until("it follows", 5, |bed| addresses(bed) == ["192.0.2.2"]);
    bed.delete(ObjectKey::new(Kind::Endpoints, "default", "db")).expect("they are deleted");
    bed.until("it is gone", 5, |bed| addresses(bed).is_empty());
    bed.run(10);
    assert!(addresses(&bed).is_empty());
}
