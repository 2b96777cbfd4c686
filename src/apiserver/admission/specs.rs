//! A pod template's specification is admitted once: all pods made from it share the result.

use std::collections::VecDeque;
use std::rc::Rc;

use smallvec::SmallVec;

use crate::api::convert::{self, ConvertError};
use crate::api::kind::Kind;
use crate::api::meta::Labels;
use crate::api::pod::{Pod, PodSpec};
use crate::apiserver::status::{Reason, Status};
use crate::engine::hash::Map;

use super::{Facts, Plugin, Refusal};

/// At most so many specifications are remembered; the oldest is forgotten first.
const REMEMBERED: usize = 1024;

type Known = SmallVec<[u64; 8]>;

/// A specification as it came, what else it depended on, and what admission made of it.
struct Admitted {
    /// Kept alive, so that its address stays its own.
    given: Rc<PodSpec>,
    facts: Known,
    result: Rc<PodSpec>,
    /// What each pod is told of it.
    annotations: Labels,
}

/// The specifications that were admitted lately, found by the address of what was given.
#[derive(Default)]
pub struct Specs {
    by_address: Map<usize, SmallVec<[Admitted; 1]>>,
    order: VecDeque<usize>,
}

impl Specs {
    /// What admission makes of the pod's specification, and what annotations say about it.
    pub fn admit(
        &mut self,
        plugins: &[Box<dyn Plugin>],
        pod: &Rc<Pod>,
        facts: Facts<'_>,
    ) -> Result<(Rc<PodSpec>, Labels), Refusal> {
        let known: Known = plugins.iter().map(|plugin| plugin.spec_facts(pod, facts)).collect::<Result<_, _>>()?;
        let address = Rc::as_ptr(&pod.spec) as usize;
        let before = self.by_address.get(&address);
        if let Some(admitted) = before.and_then(|list| list.iter().find(|admitted| admitted.facts == known)) {
            return Ok((admitted.result.clone(), admitted.annotations.clone()));
        }
        let mut spec = PodSpec::clone(&pod.spec);
        for plugin in plugins {
            plugin.admit_spec(pod, facts, &mut spec)?;
        }
        let result = match spec.full == pod.spec.full {
            true => pod.spec.clone(),
            false => compiled(spec, pod)?,
        };
        let annotations: Labels = plugins.iter().filter_map(|plugin| plugin.annotation(pod, facts)).collect();
        let (given, told) = (pod.spec.clone(), annotations.clone());
        self.remember(address, Admitted { given, facts: known, result: result.clone(), annotations });
        Ok((result, told))
    }

    fn remember(&mut self, address: usize, admitted: Admitted) {
        debug_assert_eq!(address, Rc::as_ptr(&admitted.given) as usize, "filed under its own address");
        self.by_address.entry(address).or_default().push(admitted);
        self.order.push_back(address);
        while self.order.len() > REMEMBERED {
            let Some(oldest) = self.order.pop_front() else { break };
            if let Some(list) = self.by_address.get_mut(&oldest) {
                list.remove(0);
                if list.is_empty() {
                    self.by_address.remove(&oldest);
                }
            }
        }
    }
}

/// The changed specification with what follows from it.
fn compiled(spec: PodSpec, pod: &Pod) -> Result<Rc<PodSpec>, Refusal> {
    let failed = |error: ConvertError| Status::about(Reason::Invalid, Kind::Pod, &pod.meta.name, error.to_string());
    Ok(Rc::new(convert::compile("spec", spec.full).map_err(failed)?))
}
