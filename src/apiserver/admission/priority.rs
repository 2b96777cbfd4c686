//! Priority: a pod's priority class becomes a number (kubernetes, plugin/pkg/admission/priority).

use crate::api::kind::Kind;
use crate::api::meta::ObjectKey;
use crate::api::name::Name;
use crate::api::object::Object;
use crate::api::plain::PriorityClass;
use crate::api::pod::{Pod, PodSpec};

use super::{Attributes, Facts, Plugin, Refusal, Verb, forbidden};

const PREEMPT: &str = "PreemptLowerPriority";

/// The plugin.
pub struct Priority;

/// What a pod's class says.
struct Established {
    class: String,
    value: i32,
    preemption: Option<String>,
}

impl Plugin for Priority {
    fn name(&self) -> &'static str {
        "Priority"
    }

    fn validate(
        &self,
        attributes: Attributes<'_>,
        facts: Facts<'_>,
        object: &Object,
        _old: Option<&Object>,
    ) -> Result<(), Refusal> {
        only_one_default(attributes, facts, object)
    }

    /// Ignores the class's name: it is part of the specification, or that of the one default class.
    fn spec_facts(&self, pod: &Pod, facts: Facts<'_>) -> Result<u64, Refusal> {
        let established = establish(pod, facts)?;
        let never = established.preemption.as_deref().is_some_and(|policy| policy != PREEMPT);
        Ok(u64::from(established.value as u32) << 2 | u64::from(never) << 1 | u64::from(!established.class.is_empty()))
    }

    fn admit_spec(&self, pod: &Pod, facts: Facts<'_>, spec: &mut PodSpec) -> Result<(), Refusal> {
        let Established { class, value, preemption } = establish(pod, facts)?;
        let refuse = |why: String| Err(forbidden(Kind::Pod, &pod.meta.name, pod.meta.generate_name.as_ref(), why));
        let full = &mut spec.full;
        full.priority_class_name = (!class.is_empty()).then_some(class);
        if let Some(given) = full.priority.filter(|given| *given != value) {
            return refuse(format!(
                "the integer value of priority ({given}) must not be provided in pod spec; \
                 priority admission controller computed {value} from the given PriorityClass name"
            ));
        }
        full.priority = Some(value);
        spec.priority = value;
        if let Some(preemption) = preemption {
            if let Some(given) = full.preemption_policy.as_ref().filter(|given| **given != preemption) {
                return refuse(format!(
                    "the string value of PreemptionPolicy ({given}) must not be provided in pod spec; \
                     priority admission controller computed {preemption} from the given PriorityClass name"
                ));
            }
            full.preemption_policy = Some(preemption);
        }
        Ok(())
    }
}

fn establish(pod: &Pod, facts: Facts<'_>) -> Result<Established, Refusal> {
    let asked = pod.spec.full.priority_class_name.as_deref().unwrap_or_default();
    let of = |class: &PriorityClass| Established {
        class: class.meta.name.to_string(),
        value: class.content.value.unwrap_or(0),
        preemption: class.content.preemption_policy.clone(),
    };
    if asked.is_empty() {
        let none = || Established { class: String::new(), value: 0, preemption: Some(PREEMPT.to_owned()) };
        return Ok(default_class(facts).map_or_else(none, of));
    }
    match facts.cached::<PriorityClass>(&Name::EMPTY, &Name::new(asked)) {
        Some(class) => Ok(of(class)),
        None => {
            let why = format!("no PriorityClass with name {asked} was found");
            Err(forbidden(Kind::Pod, &pod.meta.name, pod.meta.generate_name.as_ref(), why))
        }
    }
}

/// Of several default classes the one with the lowest value counts; a race can make several.
fn default_class<'a>(facts: Facts<'a>) -> Option<&'a PriorityClass> {
    let defaults = facts.all::<PriorityClass>().filter(|class| class.content.global_default == Some(true));
    defaults.min_by_key(|class| (class.content.value, class.meta.name.clone())).map(|class| &**class)
}

fn only_one_default(attributes: Attributes<'_>, facts: Facts<'_>, object: &Object) -> Result<(), Refusal> {
    let Object::PriorityClass(class) = object else { return Ok(()) };
    let key: &ObjectKey = attributes.key;
    match default_class(facts) {
        Some(default)
            if class.content.global_default == Some(true)
                && (attributes.verb == Verb::Create || default.meta.name != key.name) =>
        {
            let name = &default.meta.name;
            let why = format!("PriorityClass {name} is already marked as default. Only one default can exist");
            Err(forbidden(key.kind, &key.name, None, why))
        }
        _ => Ok(()),
    }
}
