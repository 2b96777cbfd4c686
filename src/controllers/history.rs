//! ControllerRevisions: the pod templates that a StatefulSet or DaemonSet had (kube-controller-manager, pkg/controller/history).
//!
//! A revision never changes but for its number, which is raised when its owner goes back to it.

use std::rc::Rc;

use serde_json::Value;

use crate::api::convert::template_patch;
use crate::api::kind::Kind;
use crate::api::meta::{Common, Labels, Meta, ObjectKey};
use crate::api::name::Name;
use crate::api::object::{Object, Resource};
use crate::api::pod::PodTemplate;
use crate::api::revision::{ControllerRevision, RevisionData};
use crate::api::selector::Selector;
use crate::apiserver::protocol::{Answer, DeleteOptions, Operation, Part};
use crate::apiserver::status::Reason;
use crate::client::view::View;

use super::deployment::template::safe_encode;
use super::owner;
use super::script::{Halt, Script};

/// The label of a revision with the hash of its data.
pub const HASH_LABEL: Name = Name::of("controller.kubernetes.io/hash");

/// The label of a pod with the revision that it was made of: of StatefulSets the revision's name, of DaemonSets its hash.
pub const REVISION_LABEL: Name = Name::of("controller-revision-hash");

/// The number of the revision that a template is to become: one more than the highest one. Expects them sorted.
pub fn next_number(revisions: &[Rc<ControllerRevision>]) -> i64 {
    revisions.last().map_or(1, |last| last.revision + 1)
}

/// Sorts revisions by number, then age, then name.
pub fn sort(revisions: &mut [Rc<ControllerRevision>]) {
    revisions.sort_by(|left, right| {
        let key = |it: &ControllerRevision| (it.revision, it.meta.created);
        key(left).cmp(&key(right)).then_with(|| left.meta.name.cmp(&right.meta.name))
    });
}

/// The revisions that a selector matches and that are the owner's or nobody's (`ListControllerRevisions`).
pub fn list<O: Resource>(view: &View<'_>, owner: &O, selector: &Selector) -> Vec<Rc<ControllerRevision>> {
    let meta = owner.meta();
    let is_own =
        |it: &&Rc<ControllerRevision>| it.meta.controller().is_some_and(|controller| controller.uid == meta.uid);
    let own = view.owned_by::<ControllerRevision>(meta.uid).filter(is_own);
    let all = own.chain(view.orphans::<ControllerRevision>(&meta.namespace));
    all.filter(|it| selector.matches(&it.meta.labels)).cloned().collect()
}

/// The revision that a template would be: named after its owner and its hash, with the template's labels and the annotations
/// given (`NewControllerRevision`).
pub fn new<O: Resource>(
    owner: &O,
    template: &Rc<PodTemplate>,
    annotations: Labels,
    number: i64,
    collision_count: Option<i32>,
) -> ControllerRevision {
    let hash = hash(template, collision_count);
    let meta = Meta {
        name: name(&owner.meta().name, &hash),
        common: Common {
            namespace: owner.meta().namespace.clone(),
            labels: template.labels.with(HASH_LABEL, hash),
            annotations,
            owners: [owner::controller_reference(owner)].into(),
            ..Common::default()
        }
        .into(),
        ..Meta::default()
    };
    ControllerRevision { meta, revision: number, data: Rc::new(RevisionData::of(template.clone())) }
}

/// The hash of a revision's data and of the number of collisions so far, in letters and digits that spell no bad words
/// (`HashControllerRevision`: FNV-1, 32 bits, over the raw bytes of the data, then the number in digits).
pub fn hash(template: &PodTemplate, collision_count: Option<i32>) -> String {
    let mut text = String::new();
    write_json(&template_patch(template), &mut text);
    if let Some(count) = collision_count {
        text.push_str(&count.to_string());
    }
    let fold = |hash: u32, byte: u8| hash.wrapping_mul(0x0100_0193) ^ u32::from(byte);
    safe_encode(&text.bytes().fold(0x811c_9dc5, fold).to_string())
}

/// The name of a revision: the owner's, cut so that the name stays valid, and the hash (`ControllerRevisionName`).
pub fn name(owner: &str, hash: &str) -> Name {
    Name::from(format!("{}-{hash}", owner.get(..223).unwrap_or(owner)))
}

/// Writes JSON as Go's encoder does, keys sorted and the characters escaped that mean something in HTML: names of revisions
/// are hashes of such text.
fn write_json(value: &Value, out: &mut String) {
    match value {
        Value::Null | Value::Bool(_) | Value::Number(_) => out.push_str(&value.to_string()),
        Value::String(text) => write_string(text, out),
        Value::Array(items) => {
            out.push('[');
            for (place, item) in items.iter().enumerate() {
                if place > 0 {
                    out.push(',');
                }
                write_json(item, out);
            }
            out.push(']');
        }
        Value::Object(fields) => {
            let mut sorted: Vec<_> = fields.iter().collect();
            sorted.sort_by_key(|(key, _)| key.as_str());
            out.push('{');
            for (place, (key, value)) in sorted.into_iter().enumerate() {
                if place > 0 {
                    out.push(',');
                }
                write_string(key, out);
                out.push(':');
                write_json(value, out);
            }
            out.push('}');
        }
    }
}

fn write_string(text: &str, out: &mut String) {
    out.push('"');
    for character in text.chars() {
        match character {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\u{8}' => out.push_str("\\b"),
            '\u{c}' => out.push_str("\\f"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\0'..='\u{1f}' | '<' | '>' | '&' | '\u{2028}' | '\u{2029}' => {
                out.push_str(&format!("\\u{:04x}", u32::from(character)));
            }
            other => out.push(other),
        }
    }
    out.push('"');
}

/// Makes the owner the controller of all revisions among these that have none. The owner is read from the API server itself
/// first, lest one that is being deleted adopts (`AdoptControllerRevision`).
pub fn adopt_orphans<O: Resource>(
    script: &mut Script<'_>,
    owner: &O,
    revisions: &mut [Rc<ControllerRevision>],
) -> Result<(), Halt> {
    if revisions.iter().all(|it| it.meta.controller().is_some()) {
        return Ok(());
    }
    if let Err(why) = owner::recheck(script, owner)? {
        return Err(Halt::Failed(format!("can't adopt ControllerRevisions: {why}")));
    }
    for revision in revisions.iter_mut().filter(|it| it.meta.controller().is_none()) {
        let mut owners = revision.meta.owners().to_vec();
        owners.push(owner::controller_reference(owner));
        let adopted = script.write(owner::set_owners(revision.as_ref(), owners, None))?;
        if let Some(adopted) = adopted.as_ref().and_then(ControllerRevision::of) {
            *revision = adopted.clone();
        }
    }
    Ok(())
}

/// Creates a revision. If another one has its name, the number of collisions grows and with it the hash changes; one that says
/// the same is taken in its place (`CreateControllerRevision`; the label keeps the hash of the first try, as there).
pub fn create<O: Resource>(
    script: &mut Script<'_>,
    owner: &O,
    mut revision: ControllerRevision,
    collision_count: &mut i32,
) -> Result<Rc<ControllerRevision>, Halt> {
    loop {
        if let RevisionData::Template(kept) = &*revision.data {
            revision.meta.name = name(&owner.meta().name, &hash(&kept.template, Some(*collision_count)));
        }
        let object = Object::ControllerRevision(Rc::new(revision.clone()));
        let (answer, key) = (script.ask(Operation::Create { object, dry_run: false })?, key(&revision));
        match answer {
            Ok(answer) => return Ok(answered(answer).unwrap_or_else(|| Rc::new(revision))),
            Err(status) if status.reason == Reason::AlreadyExists => {
                let there = script.write(Operation::Get { key })?;
                match there.as_ref().and_then(ControllerRevision::of) {
                    Some(there) if there.data == revision.data => return Ok(there.clone()),
                    _ => *collision_count += 1,
                }
            }
            Err(status) => return Err(Halt::Failed(status.message)),
        }
    }
}

/// Gives a revision another number (`UpdateControllerRevision`). A conflict fails the sync, which comes again.
pub fn renumber(
    script: &mut Script<'_>,
    revision: &Rc<ControllerRevision>,
    number: i64,
) -> Result<Rc<ControllerRevision>, Halt> {
    if revision.revision == number {
        return Ok(revision.clone());
    }
    let changed = Rc::new(ControllerRevision { revision: number, ..(**revision).clone() });
    let object = Object::ControllerRevision(changed.clone());
    let written = script.write(Operation::Update { object, part: Part::Main, dry_run: false })?;
    Ok(written.as_ref().and_then(ControllerRevision::of).cloned().unwrap_or(changed))
}

/// Deletes the oldest revisions that are not in use until only so many of them remain; expects them sorted (`truncateHistory`).
pub fn truncate(
    script: &mut Script<'_>,
    revisions: &[Rc<ControllerRevision>],
    in_use: impl Fn(&ControllerRevision) -> bool,
    limit: i32,
) -> Result<(), Halt> {
    let Ok(limit) = usize::try_from(limit) else { return Ok(()) };
    let unused: Vec<_> = revisions.iter().filter(|it| !in_use(it)).collect();
    let surplus = unused.len().saturating_sub(limit);
    for revision in &unused[..surplus] {
        script.write(Operation::Delete { key: key(revision), options: DeleteOptions::default() })?;
    }
    Ok(())
}

fn key(revision: &ControllerRevision) -> ObjectKey {
    let meta = &revision.meta;
    ObjectKey { kind: Kind::ControllerRevision, namespace: meta.namespace.clone(), name: meta.name.clone() }
}

fn answered(answer: Answer) -> Option<Rc<ControllerRevision>> {
    match answer {
        Answer::Object(object) => ControllerRevision::of(&object).cloned(),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::defaults::Defaults;
    use crate::api::shared::Shared;
    use crate::api::workload::Deployment;
    use crate::api::{convert, meta};
    use crate::client::plan::Again;
    use crate::controllers::script;
    use crate::controllers::testing::{self, Server};
    use serde_json::json;

    /// What a set of the recordings has for a template.
    fn recorded(app: &str, image: &str) -> PodTemplate {
        let template = json!({
            "metadata": {"labels": {"app": app}, "annotations": {"fake/delete-delay": "1s"}},
            "spec": {"containers": [
                {"name": "app", "image": image, "resources": {"requests": {"cpu": "100m", "memory": "64Mi"}}}
            ]}
        });
        let full = json!({"spec": {"selector": {}, "template": template}});
        let mut full: k8s_openapi::api::apps::v1::Deployment = serde_json::from_value(full).unwrap();
        full.set_defaults();
        let deployment: Deployment = convert::Convert::from_full(full).unwrap();
        (*deployment.spec.template).clone()
    }

    #[test]
    fn revisions_have_the_names_that_a_real_control_plane_gave_them() {
        for (app, image, expected) in [
            ("db", "fake/app:v1", "565d85dd46"),
            ("db", "fake/app:v2", "5fcf949d57"),
            ("db", "fake/never-ready:v3", "c94c8fbcf"),
            ("db", "fake/app:v4", "d76b6b999"),
            ("par", "fake/app:v1", "b48468657"),
            ("par", "fake/app:v2", "857cf488fd"),
        ] {
            assert_eq!(hash(&recorded(app, image), Some(0)), expected, "{app} {image}");
        }
    }

    #[test]
    fn text_is_escaped_as_go_does() {
        let mut text = String::new();
        write_json(&json!({"b": "a<b>&\"c\"\n\u{1}\u{2028}é", "a": [1, true, null]}), &mut text);
        assert_eq!(text, "{\"a\":[1,true,null],\"b\":\"a\\u003cb\\u003e\\u0026\\\"c\\\"\\n\\u0001\\u2028é\"}");
    }

    #[test]
    fn long_names_are_cut() {
        assert_eq!(name("db", "abc"), "db-abc");
        assert_eq!(name(&"x".repeat(253), "abcde").len(), 229);
    }

    fn numbered(server: &mut Server, number: i64, image: &str) -> Rc<ControllerRevision> {
        let owner = testing::deployment("db", 1);
        let mut revision = new(&owner, &Rc::new(testing::template("db", image)), Labels::NONE, number, Some(0));
        revision.meta.uid = meta::Uid(500 + number as u128);
        server.put(revision.boxed());
        server.all::<ControllerRevision>().into_iter().find(|it| it.revision == number).expect("it is there")
    }

    /// Runs the code of a sync to its end.
    fn run(server: &mut Server, body: impl Fn(&mut Script<'_>) -> Result<Again, Halt> + 'static) -> Again {
        let plan = script::run(&server.cache.view(), server.now(), body);
        server.carry_out(plan)
    }

    #[test]
    fn a_name_that_another_template_has_changes_the_hash_and_one_that_says_the_same_is_taken() {
        let mut server = Server::at(100);
        let owner = testing::deployment("db", 1);
        let template = Rc::new(testing::template("db", "img:v1"));
        let mut squatter = new(&owner, &Rc::new(testing::template("db", "other")), Labels::NONE, 1, Some(0));
        squatter.meta.name = name("db", &hash(&template, Some(0)));
        server.put(squatter.boxed());
        let wanted = new(&owner, &template, Labels::NONE, 2, Some(0));
        for _ in 0..2 {
            let (owner, wanted, expected) = (owner.clone(), wanted.clone(), name("db", &hash(&template, Some(1))));
            let again = run(&mut server, move |script| {
                let mut collisions = 0;
                let created = create(script, &owner, wanted.clone(), &mut collisions)?;
                assert_eq!((&created.meta.name, collisions), (&expected, 1));
                Ok(Again::OnChange)
            });
            assert_eq!(again, Again::OnChange);
        }
        assert_eq!(server.all::<ControllerRevision>().len(), 2);
    }

    #[test]
    fn the_oldest_revisions_that_nobody_uses_go() {
        let mut server = Server::at(100);
        let mut revisions: Vec<_> =
            [3, 1, 4, 2].into_iter().map(|number| numbered(&mut server, number, &format!("img:v{number}"))).collect();
        sort(&mut revisions);
        assert_eq!(next_number(&revisions), 5);
        let kept = revisions.clone();
        run(&mut server, move |script| {
            truncate(script, &kept, |it| it.revision == 1, 1)?;
            Ok(Again::OnChange)
        });
        let left: Vec<_> = server.all::<ControllerRevision>().iter().map(|it| it.revision).collect();
        assert_eq!(
            {
                let mut left = left;
                left.sort_unstable();
                left
            },
            [1, 4]
        );
    }

    #[test]
    fn orphans_are_adopted_once_the_owner_was_seen_to_live() {
        let mut server = Server::at(100);
        let owner = testing::deployment("db", 1);
        server.put(owner.clone().boxed());
        let mut orphan = new(&owner, &Rc::new(testing::template("db", "img:v1")), Labels::NONE, 1, Some(0));
        orphan.meta.owners = Shared::NONE;
        server.put(orphan.boxed());
        let found = list(&server.cache.view(), &owner, &owner.spec.selector);
        assert_eq!(found.len(), 1);
        run(&mut server, move |script| {
            let mut revisions = found.clone();
            adopt_orphans(script, &owner, &mut revisions)?;
            assert!(revisions[0].meta.controller().is_some());
            Ok(Again::OnChange)
        });
        assert!(server.all::<ControllerRevision>()[0].meta.controller().is_some());
    }
}
