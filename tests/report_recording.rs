//! The paths of changes are those of the recordings of a real control plane.

use std::collections::BTreeMap;
use std::fs;

use kubesim::report::changes::flatten;
use serde_json::{Map, Value};

/// Every MODIFIED line of the recording, applied to what was known of its object, finds there the old value that it names:
/// so our paths for whole objects and the recording's paths for changes are the same language.
#[test]
fn the_recorded_changes_fit_the_objects_flattened_by_us() {
    let text =
        fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/timelines/a/timeline.jsonl")).unwrap();
    let mut known: BTreeMap<(String, String, String), BTreeMap<String, Value>> = BTreeMap::new();
    let mut fitted = 0;
    for line in text.lines().map(|line| serde_json::from_str::<Map<String, Value>>(line).unwrap()) {
        let text = |key: &str| line.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
        let object = (text("kind"), text("ns"), text("name"));
        if let Some(whole) = line.get("obj") {
            let leaves = flatten(whole).into_iter().map(|(path, value)| (path, value.clone()));
            known.insert(object, leaves.collect());
            continue;
        }
        let Some(Value::Object(changes)) = line.get("changes") else { continue };
        let leaves = known.get_mut(&object).unwrap();
        for (path, pair) in changes {
            assert_eq!(leaves.get(path).unwrap_or(&Value::Null), &pair[0], "{object:?} {path}");
            fitted += usize::from(!pair[0].is_null());
            match &pair[1] {
                Value::Null => leaves.remove(path),
                new => leaves.insert(path.clone(), new.clone()),
            };
        }
    }
    assert_eq!(fitted, 1126, "changes of something that was there");
}
