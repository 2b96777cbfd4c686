//! Containers that must not run as root.

use serde_json::{Value, json};

use crate::api::name::Name;
use crate::api::pod::RestartPolicy::Always;
use crate::api::pod::{ContainerState, PodPhase, PodSpec};
use crate::runtime::model::ImageModel;
use crate::runtime::user::ImageUser;

use super::harness::{World, container, spec};

fn world() -> World {
    let users = [
        ("root", ImageUser::Id(0)),
        ("plain", ImageUser::Id(1000)),
        ("named", ImageUser::Name(Name::of("nginx"))),
        ("strange", ImageUser::Id(-5)),
    ];
    let models = users.map(|(name, user)| (name, ImageModel { user, ..ImageModel::default() })).to_vec();
    World::new(models, |_, _| {}).with_images(&["root", "plain", "named", "strange"])
}

/// A pod of one container `c` with an image and the security contexts of pod and container.
fn pod(image: &'static str, of_pod: &Value, own: &Value) -> PodSpec {
    let mut spec = spec(Always, 1, vec![container("c", image)]);
    let full = json!({"name": "c", "securityContext": own});
    spec.full.containers = vec![serde_json::from_value(full).expect("a container")];
    spec.full.security_context = serde_json::from_value(of_pod.clone()).expect("a context");
    spec
}

/// What keeps the container of a pod from being made, without what names the pod and the container.
fn why(image: &'static str, of_pod: &Value, own: &Value) -> Option<String> {
    let mut world = world();
    world.create("p", pod(image, of_pod, own));
    world.run(3_000);
    let events = world.lines("p", &["EVENT Warning Failed"]);
    let place = format!(" (pod: \"p_default({})\", container: c)", world.pod("p").meta.uid);
    let message = events.first()?.strip_prefix("EVENT Warning Failed: Error: ").expect("why");
    Some(message.strip_suffix(&place).expect("which container").to_owned())
}

#[test]
fn who_must_not_be_root_is_refused_if_he_is_or_might_be() {
    let (nothing, must_not) = (json!(null), json!({"runAsNonRoot": true}));
    let as_root = Some("container has runAsNonRoot and image will run as root".to_owned());
    assert_eq!(why("root", &nothing, &nothing), None);
    assert_eq!(why("root", &must_not, &nothing), as_root);
    assert_eq!(why("root", &nothing, &must_not), as_root);
    assert_eq!(why("root", &must_not, &json!({"runAsNonRoot": false})), None, "the container's word goes before");
    assert_eq!(why("root", &must_not, &json!({"runAsUser": 7})), None);
    assert_eq!(why("root", &json!({"runAsNonRoot": true, "runAsUser": 7}), &nothing), None);
    let breaks = Some("container's runAsUser breaks non-root policy".to_owned());
    assert_eq!(why("plain", &must_not, &json!({"runAsUser": 0})), breaks);
    assert_eq!(why("plain", &json!({"runAsUser": 7}), &json!({"runAsUser": 0, "runAsNonRoot": true})), breaks);
    assert_eq!(why("plain", &must_not, &nothing), None);
    let unknown = "container has runAsNonRoot and image has non-numeric user (nginx), cannot verify user is non-root";
    assert_eq!(why("named", &must_not, &nothing), Some(unknown.to_owned()));
    let invalid = "container has runAsNonRoot and image has an invalid user id (-5). (Must be 1-(2147483647)): must be between 0 and 2147483647, inclusive";
    assert_eq!(why("strange", &must_not, &nothing), Some(invalid.to_owned()));
}

#[test]
fn a_container_that_may_not_be_made_is_tried_again_and_again() {
    let mut world = world();
    world.create("p", pod("root", &json!({"runAsNonRoot": true}), &json!(null)));
    world.run(60_000);
    let pod = world.pod("p");
    assert_eq!(pod.status.phase, PodPhase::Pending);
    let ContainerState::Waiting { reason, message } = &pod.status.containers[0].state else { panic!("it waits") };
    assert_eq!(reason, "CreateContainerConfigError");
    let place = format!("(pod: \"p_default({})\", container: c)", pod.meta.uid);
    let expected = format!("container has runAsNonRoot and image will run as root {place}");
    assert_eq!(message.as_ref().map(|text| text.as_str()), Some(expected.as_str()));
    let tries = world.times("p", "Error: container has runAsNonRoot");
    // The second try comes as soon as a relist has shown the sandbox.
    let waits: Vec<u64> = tries.windows(2).skip(1).map(|pair| pair[1] - pair[0]).collect();
    assert!(tries[1] - tries[0] < 1_100, "{tries:?}");
    assert!(waits.len() >= 3 && waits.iter().all(|wait| (10_000..16_100).contains(wait)), "{waits:?}");
    assert!(world.lines("p", &["EVENT Normal Created"]).is_empty());
}
