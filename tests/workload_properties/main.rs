//! Properties of workloads on whole clusters: etcd, API server, controllers, scheduler and kubelets, with people who change their minds and
//! machines that fail.
//!
//! Invariants are held against every committed write of a run ([`watch`]); what is wanted, against the cluster that has settled
//! ([`desired`]). A case that fails is shrunk and then shown as the scenario that it is. `PROPTEST_CASES` says how many cases are
//! tried of each property.
//!
//! - `workload`: Deployments, StatefulSets, DaemonSets and Jobs, drawn by chance
//! - `trouble`: what is done to them, and what breaks
//! - `case`: all of that as a scenario; running it
//! - `watch`, `invariants`: what holds after every write
//! - `history`: what is told of a run, held against what etcd has committed
//! - `desired`: what holds in the end

mod case;
mod desired;
mod history;
mod invariants;
mod trouble;
mod watch;
mod workload;

use proptest::prelude::*;

use case::{Case, Surroundings, cases, surroundings};
use trouble::{
    Operation, Planned, Target, changes, drains, faults, gentle, of_all, of_nodes, operations, outages, rough,
};
use workload::{Amount, Budget, Db, Web, Work, Workloads, agent, budget, db, web, work};

/// So many cases, or as many as the environment asks for.
fn config(cases: u32) -> ProptestConfig {
    let default = ProptestConfig::default();
    let cases = if std::env::var_os("PROPTEST_CASES").is_some() { default.cases } else { cases };
    ProptestConfig { cases, max_shrink_iters: 400, failure_persistence: None, ..default }
}

/// Something of each kind, or not.
fn mixed() -> impl Strategy<Value = Workloads> {
    (prop::option::of(web()), prop::option::of(db()), prop::option::of(agent()), prop::option::of(work()))
        .prop_map(|(web, db, agent, work)| Workloads { web, db, agent, work })
}

fn only_web() -> impl Strategy<Value = Workloads> {
    web().prop_map(|web| Workloads { web: Some(web), ..Workloads::default() })
}

fn only_db() -> impl Strategy<Value = Workloads> {
    db().prop_map(|db| Workloads { db: Some(db), ..Workloads::default() })
}

fn only_work() -> impl Strategy<Value = Workloads> {
    work().prop_map(|work| Workloads { work: Some(work), ..Workloads::default() })
}

/// Servers, each with a budget.
fn with_budgets() -> impl Strategy<Value = Workloads> {
    (web(), db(), budget(), budget()).prop_map(|(mut web, mut db, first, second)| {
        (web.budget, db.budget) = (Some(first), Some(second));
        Workloads { web: Some(web), db: Some(db), ..Workloads::default() }
    })
}

fn nothing() -> impl Strategy<Value = Vec<trouble::Breaking>> {
    Just(Vec::new())
}

/// The same with one or two API servers and a network of any kind.
fn in_trouble(cases: impl Strategy<Value = Case>) -> impl Strategy<Value = Case> {
    (cases, surroundings()).prop_map(|(case, surroundings)| Case { surroundings, ..case })
}

fn check(case: &Case) -> Result<(), TestCaseError> {
    case.check()
}

#[test]
fn every_invariant_is_put_to_the_test() {
    let web = Web {
        replicas: 4,
        rolling: Some((Amount::Number(1), Amount::Number(1))),
        min_ready: 0,
        budget: Some(Budget::MaxUnavailable(Amount::Number(1))),
    };
    let db = Db {
        replicas: 3,
        start: 0,
        parallel: false,
        rolling: Some((0, None)),
        min_ready: 0,
        claims: None,
        budget: None,
    };
    let work = Work {
        completions: 3,
        parallelism: 2,
        indexed: false,
        back_off_limit: 4,
        per_index: None,
        on_failure: false,
        replaces_failed: false,
        image: "work:good",
    };
    let planned = |at, operation| Planned { at, operation };
    let case = Case {
        seed: 1,
        workloads: Workloads { web: Some(web), db: Some(db), agent: None, work: Some(work) },
        operations: vec![
            planned(40, Operation::SetImage(Target::Web, "app:v2")),
            planned(80, Operation::Drain(0, 60)),
            planned(90, Operation::Drain(1, 60)),
        ],
        faults: Vec::new(),
        surroundings: Surroundings::default(),
    };
    let judged = case.judged();
    assert!(judged.iter().all(|times| *times > 0), "an invariant had nothing to say: {judged:?}");
}

proptest! {
    #![proptest_config(config(12))]

    #[test]
    fn a_run_without_faults_settles_and_what_settles_is_what_is_wanted(
        case in cases(mixed(), operations(rough(), 6), nothing()),
    ) {
        check(&case)?;
    }

    #[test]
    fn a_deployment_keeps_to_its_surge_and_never_falls_short_by_its_own_doing(
        case in cases(only_web(), operations(changes(), 6), nothing()),
    ) {
        check(&case)?;
    }

    #[test]
    fn a_deployment_keeps_to_its_bounds_while_machines_fail(
        case in cases(only_web(), operations(gentle(), 4), faults(of_all(), 3)),
    ) {
        check(&case)?;
    }

    #[test]
    fn a_stateful_set_never_has_two_live_pods_of_one_ordinal_and_starts_them_in_order(
        case in cases(only_db(), operations(gentle(), 5), faults(of_all(), 3)),
    ) {
        check(&case)?;
    }

    #[test]
    fn a_job_counts_no_success_twice_and_never_runs_more_than_its_parallelism(
        case in cases(only_work(), operations(gentle(), 3), faults(of_all(), 3)),
    ) {
        check(&case)?;
    }

    #[test]
    fn evictions_never_break_a_budget(
        case in cases(with_budgets(), operations(drains(), 4), faults(of_nodes(), 1)),
    ) {
        check(&case)?;
    }

    #[test]
    fn what_is_told_is_what_etcd_has_committed_each_write_once_and_in_order(
        case in in_trouble(cases(mixed(), operations(rough(), 4), faults(outages(), 5))),
    ) {
        case.check_history()?;
    }

    #[test]
    fn when_faults_heal_what_settles_is_what_is_wanted(
        case in cases(mixed(), operations(rough(), 5), faults(of_all(), 4)),
    ) {
        check(&case)?;
    }
}
