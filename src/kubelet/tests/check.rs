//! Holds what the kubelet wrote about a pod against a recording of a real one.

use super::harness::World;
use super::lines::{Line, any_image, as_one, clean, sorted_kills};

/// Compares writes and events about a pod with a recording, each in their own order: between the two there is a race.
/// Returns how many writes were one with the next in the recording: a real status manager that is slow writes only the
/// newest status, so a recorded PATCH may be several of ours in one.
pub fn check(world: &World, recording: &str, pod: &str) -> usize {
    check_first(world, recording, pod, usize::MAX, usize::MAX)
}

/// The same for the first writes and the first events of a recording only.
pub fn check_first(world: &World, recording: &str, pod: &str, writes: usize, events: usize) -> usize {
    let lines = &world.api.lines;
    let recorded = recorded(recording, pod);
    assert!(!recorded.is_empty(), "{pod} is in the recording");
    let is_event = |text: &String| text.starts_with("EVENT");
    let expected = sorted_kills(recorded.iter().filter(|text| is_event(text)).map(|text| any_image(text)));
    let ours = sorted_kills(
        lines.iter().filter(|line| line.pod == pod && is_event(&line.text)).map(|line| any_image(&line.text)),
    );
    let (expected, ours) = (expected.get(..events).unwrap_or(&expected), ours.get(..events).unwrap_or(&ours));
    // Long lines are cut off in the recording.
    let alike = |ours: &String, expected: &String| {
        ours.trim_end() == expected || (expected.len() > 180 && ours.starts_with(expected.as_str()))
    };
    let all_alike = ours.len() == expected.len() && ours.iter().zip(expected).all(|(ours, theirs)| alike(ours, theirs));
    assert!(all_alike, "events of {pod}: ours\n  {}\nrecorded\n  {}", ours.join("\n  "), expected.join("\n  "));

    let expected: Vec<&String> = recorded.iter().filter(|text| !is_event(text)).take(writes).collect();
    let ours: Vec<&Line> = lines.iter().filter(|line| line.pod == pod && !line.text.starts_with("EVENT")).collect();
    let (mut place, mut merged) = (0, 0);
    for (number, wanted) in expected.iter().enumerate() {
        let length = (1..=4).find(|length| {
            let some = ours.get(place..place + length).unwrap_or_default();
            !some.is_empty() && as_one(some).is_some_and(|text| text == **wanted)
        });
        let Some(length) = length else {
            let rest: Vec<&str> = ours.iter().skip(place).take(4).map(|line| line.text.as_str()).collect();
            panic!(
                "{pod}: write {number} of the recording is\n  {wanted}\nbut ours go on with\n  {}",
                rest.join("\n  ")
            );
        };
        place += length;
        merged += length - 1;
    }
    if writes == usize::MAX {
        let rest: Vec<&str> = ours.iter().skip(place).map(|line| line.text.as_str()).collect();
        assert!(rest.is_empty(), "{pod}: nothing more is recorded than\n  {}", rest.join("\n  "));
    }
    merged
}

/// What a real kubelet wrote about a pod: lines of a recording without times, and without what its machine put in.
fn recorded(recording: &str, pod: &str) -> Vec<String> {
    let lines = recording.lines().filter_map(|line| {
        let (_, rest) = line.trim_start().split_once(' ')?;
        let (name, text) = rest.trim_start().split_once(' ')?;
        (name == pod).then(|| clean(text.trim_start()))
    });
    lines.filter(|line| line != "PATCH").collect()
}
