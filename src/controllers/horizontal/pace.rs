//! How fast replicas may follow what measures ask for: bounds, stabilization windows and policies
//! (kubernetes, pkg/controller/podautoscaler/horizontal.go).

use k8s_openapi::api::autoscaling::v2::{HPAScalingPolicy, HPAScalingRules, HorizontalPodAutoscalerBehavior};

use crate::engine::time::SimTime;

/// Without rules of its own an autoscaler at most doubles the replicas at a time (`scaleUpLimitFactor`) ...
const UP_FACTOR: f64 = 2.0;
/// ... or has so many (`scaleUpLimitMinimum`).
const UP_MINIMUM: f64 = 4.0;

/// A change of replicas that was made.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Made {
    by: i32,
    at: SimTime,
    outdated: bool,
}

/// What the controller remembers of an autoscaler. A restart forgets it.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct History {
    /// What measures asked for.
    asked: Vec<(i32, SimTime)>,
    ups: Vec<Made>,
    downs: Vec<Made>,
}

/// What replicas are to be, within which bounds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Wish {
    /// How many there are.
    pub current: i32,
    /// How many measures ask for.
    pub desired: i32,
    /// At least.
    pub min: i32,
    /// At most.
    pub max: i32,
}

/// Why replicas are what they are: reason and message of a condition.
pub type Why = (&'static str, &'static str);

/// What is decided.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Paced {
    /// How many replicas.
    pub replicas: i32,
    /// Of the condition AbleToScale.
    pub able: Why,
    /// Whether the condition ScalingLimited holds, and why or why not.
    pub limited: (bool, Why),
}

const READY: Why = ("ReadyForNewScale", "recommended size matches current size");
const HIGHER: Why = (
    "ScaleDownStabilized",
    "recent recommendations were higher than current one, applying the highest recent recommendation",
);
const LOWER: Why = (
    "ScaleUpStabilized",
    "recent recommendations were lower than current one, applying the lowest recent recommendation",
);
const UP_LIMIT: Why = ("ScaleUpLimit", "the desired replica count is increasing faster than the maximum scale rate");
const DOWN_LIMIT: Why =
    ("ScaleDownLimit", "the desired replica count is decreasing faster than the maximum scale rate");
const TOO_MANY: Why = ("TooManyReplicas", "the desired replica count is more than the maximum replica count");
const TOO_FEW: Why = ("TooFewReplicas", "the desired replica count is less than the minimum replica count");
const WITHIN: Why = ("DesiredWithinRange", "the desired count is within the acceptable range");

impl History {
    /// Notes how many replicas there are when the autoscaler is first looked at (`recordInitialRecommendation`).
    pub fn begin(&mut self, current: i32, now: SimTime) {
        if self.asked.is_empty() {
            self.asked.push((current, now));
        }
    }

    /// What a wish comes to; `window` is how long higher recommendations hold replicas up, in seconds, if the autoscaler does
    /// not say.
    pub fn pace(
        &mut self,
        wish: Wish,
        behavior: Option<&HorizontalPodAutoscalerBehavior>,
        window: i32,
        now: SimTime,
    ) -> Paced {
        let (stable, why, replicas, limit) = match behavior {
            None => {
                let stable = self.highest(wish.desired, window, now);
                let (replicas, limit) = by_default(Wish { desired: stable, ..wish });
                (stable, HIGHER, replicas, limit)
            }
            Some(behavior) => {
                let stable = self.stabilized(wish, behavior, window, now);
                let why = if wish.desired >= wish.current { LOWER } else { HIGHER };
                let (replicas, limit) = self.by_policies(Wish { desired: stable, ..wish }, behavior, now);
                (stable, why, replicas, limit)
            }
        };
        let able = if stable == wish.desired { READY } else { why };
        Paced { replicas, able, limited: (replicas != stable, limit) }
    }

    /// The highest of the recommendations of late (`stabilizeRecommendation`).
    fn highest(&mut self, desired: i32, window: i32, now: SimTime) -> i32 {
        let (mut highest, mut old) = (desired, None);
        for (place, (asked, at)) in self.asked.iter().enumerate() {
            if is_older(*at, now, window) {
                old = Some(place);
            } else {
                highest = highest.max(*asked);
            }
        }
        self.note(desired, old, now);
        highest
    }

    /// Within the lowest recommendations of the one window and the highest of the other
    /// (`stabilizeRecommendationWithBehaviors`).
    fn stabilized(&mut self, wish: Wish, behavior: &HorizontalPodAutoscalerBehavior, window: i32, now: SimTime) -> i32 {
        let seconds = |rules: &Option<HPAScalingRules>, default: i32| {
            rules.as_ref().and_then(|rules| rules.stabilization_window_seconds).unwrap_or(default)
        };
        let (up, down) = (seconds(&behavior.scale_up, 0), seconds(&behavior.scale_down, window));
        let (mut lowest, mut highest, mut old) = (wish.desired, wish.desired, None);
        for (place, (asked, at)) in self.asked.iter().enumerate() {
            if is_younger(*at, now, up) {
                lowest = lowest.min(*asked);
            }
            if is_younger(*at, now, down) {
                highest = highest.max(*asked);
            }
            if is_older(*at, now, up) && is_older(*at, now, down) {
                old = Some(place);
            }
        }
        self.note(wish.desired, old, now);
        wish.current.max(lowest).min(highest)
    }

    /// Notes a recommendation, in the place of one that is too old.
    fn note(&mut self, desired: i32, old: Option<usize>, now: SimTime) {
        match old {
            Some(place) => self.asked[place] = (desired, now),
            None => self.asked.push((desired, now)),
        }
    }

    /// Within what the policies allow (`convertDesiredReplicasWithBehaviorRate`).
    fn by_policies(&self, wish: Wish, behavior: &HorizontalPodAutoscalerBehavior, now: SimTime) -> (i32, Why) {
        let Wish { current, desired, min, max } = wish;
        if desired > current {
            let limit = behavior.scale_up.as_ref().map_or(max, |rules| self.up_limit(current, rules, now)).max(current);
            let (most, why) = if max > limit { (limit, UP_LIMIT) } else { (max, TOO_MANY) };
            if desired > most {
                return (most, why);
            }
        } else if desired < current {
            let limit =
                behavior.scale_down.as_ref().map_or(min, |rules| self.down_limit(current, rules, now)).min(current);
            let (least, why) = if min < limit { (limit, DOWN_LIMIT) } else { (min, TOO_FEW) };
            if desired < least {
                return (least, why);
            }
        }
        (desired, WITHIN)
    }

    /// How many there were when the period of a policy began.
    fn at_start(&self, current: i32, policy: &HPAScalingPolicy, now: SimTime) -> i32 {
        let sum = |made: &[Made]| -> i32 {
            made.iter().filter(|made| is_younger(made.at, now, policy.period_seconds)).map(|made| made.by).sum()
        };
        current - sum(&self.ups) + sum(&self.downs)
    }

    /// `calculateScaleUpLimitWithScalingRules`.
    fn up_limit(&self, current: i32, rules: &HPAScalingRules, now: SimTime) -> i32 {
        let proposals = rules.policies.iter().flatten().map(|policy| {
            let start = self.at_start(current, policy, now);
            match policy.type_.as_str() {
                "Pods" => start.saturating_add(policy.value),
                _ => libm::ceil(f64::from(start) * (1.0 + f64::from(policy.value) / 100.0)) as i32,
            }
        });
        match rules.select_policy.as_deref() {
            Some("Disabled") => current,
            Some("Min") => proposals.min().unwrap_or(i32::MAX),
            _ => proposals.max().unwrap_or(i32::MIN),
        }
    }

    /// `calculateScaleDownLimitWithBehaviors`.
    fn down_limit(&self, current: i32, rules: &HPAScalingRules, now: SimTime) -> i32 {
        let proposals = rules.policies.iter().flatten().map(|policy| {
            let start = self.at_start(current, policy, now);
            match policy.type_.as_str() {
                "Pods" => start.saturating_sub(policy.value),
                _ => (f64::from(start) * (1.0 - f64::from(policy.value) / 100.0)) as i32,
            }
        });
        match rules.select_policy.as_deref() {
            Some("Disabled") => current,
            Some("Min") => proposals.max().unwrap_or(i32::MIN),
            _ => proposals.min().unwrap_or(i32::MAX),
        }
    }

    /// Notes a change that was made (`storeScaleEvent`).
    pub fn made(&mut self, behavior: Option<&HorizontalPodAutoscalerBehavior>, from: i32, to: i32, now: SimTime) {
        let Some(behavior) = behavior else { return };
        let (made, rules) = match to > from {
            true => (&mut self.ups, &behavior.scale_up),
            false => (&mut self.downs, &behavior.scale_down),
        };
        let policies = rules.iter().flat_map(|rules| rules.policies.iter().flatten());
        let longest = policies.map(|policy| policy.period_seconds).max().unwrap_or(0);
        for one in made.iter_mut().filter(|one| is_older(one.at, now, longest)) {
            one.outdated = true;
        }
        let new = Made { by: (to - from).abs(), at: now, outdated: false };
        match made.iter_mut().rfind(|one| one.outdated) {
            Some(place) => *place = new,
            None => made.push(new),
        }
    }
}

fn age(at: SimTime, now: SimTime) -> u64 {
    now.as_nanos().saturating_sub(at.as_nanos())
}

fn window_nanos(seconds: i32) -> u64 {
    u64::try_from(seconds).unwrap_or(0) * 1_000_000_000
}

fn is_older(at: SimTime, now: SimTime, seconds: i32) -> bool {
    age(at, now) > window_nanos(seconds)
}

fn is_younger(at: SimTime, now: SimTime, seconds: i32) -> bool {
    age(at, now) < window_nanos(seconds)
}

/// Within the bounds, and not too many at a time (`convertDesiredReplicasWithRules`).
fn by_default(wish: Wish) -> (i32, Why) {
    let limit = libm::fmax(UP_FACTOR * f64::from(wish.current), UP_MINIMUM) as i32;
    let (most, why) = if wish.max > limit { (limit, UP_LIMIT) } else { (wish.max, TOO_MANY) };
    if wish.desired < wish.min {
        (wish.min, TOO_FEW)
    } else if wish.desired > most {
        (most, why)
    } else {
        (wish.desired, WITHIN)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn at(seconds: u64) -> SimTime {
        SimTime::from_nanos(seconds * 1_000_000_000)
    }

    fn behavior(up: Value, down: Value) -> HorizontalPodAutoscalerBehavior {
        serde_json::from_value(json!({"scaleUp": up, "scaleDown": down})).expect("a behavior")
    }

    fn wish(current: i32, desired: i32) -> Wish {
        Wish { current, desired, min: 1, max: 100 }
    }

    #[test]
    fn without_rules_replicas_double_at_most_and_stay_within_bounds() {
        let check = |current: i32, desired: i32, expected: (i32, Why)| {
            let mut history = History::default();
            let paced = history.pace(Wish { max: 50, ..wish(current, desired) }, None, 300, at(1));
            assert_eq!((paced.replicas, paced.limited.1), expected);
        };
        check(1, 10, (4, UP_LIMIT));
        check(10, 25, (20, UP_LIMIT));
        check(30, 70, (50, TOO_MANY));
        check(3, 0, (1, TOO_FEW));
        check(3, 2, (2, WITHIN));
    }

    #[test]
    fn the_highest_recommendation_of_five_minutes_holds_replicas_up() {
        let mut history = History::default();
        history.begin(5, at(0));
        let mut look = |desired, seconds| history.pace(wish(5, desired), None, 300, at(seconds));
        assert_eq!(look(2, 15), Paced { replicas: 5, able: HIGHER, limited: (false, WITHIN) });
        assert_eq!(look(3, 300).replicas, 5, "it is not older than the window");
        assert_eq!(look(2, 301).replicas, 3);
        assert_eq!(look(2, 601), Paced { replicas: 2, able: READY, limited: (false, WITHIN) });
    }

    #[test]
    fn windows_stabilize_upwards_and_downwards() {
        let pods = json!([{"type": "Percent", "value": 900, "periodSeconds": 1}]);
        let rules = behavior(
            json!({"stabilizationWindowSeconds": 60, "selectPolicy": "Max", "policies": pods}),
            json!({"stabilizationWindowSeconds": 30, "selectPolicy": "Max", "policies": pods}),
        );
        let mut history = History::default();
        history.begin(5, at(0));
        let mut look = |desired, seconds| history.pace(wish(5, desired), Some(&rules), 300, at(seconds));
        assert_eq!((look(9, 15).replicas, look(9, 15).able), (5, LOWER));
        assert_eq!(look(8, 59).replicas, 5);
        assert_eq!(look(8, 76).replicas, 8, "lower ones are older than a minute");
        assert_eq!((look(2, 80).replicas, look(2, 80).able), (5, HIGHER));
        assert_eq!(look(2, 110).replicas, 2);
    }

    #[test]
    fn policies_limit_what_is_added_and_taken_away_in_a_period() {
        let policies = json!([
            {"type": "Pods", "value": 3, "periodSeconds": 60}, {"type": "Percent", "value": 50, "periodSeconds": 60}
        ]);
        let rules = |choice: &str| {
            let rules = json!({"stabilizationWindowSeconds": 0, "selectPolicy": choice, "policies": policies});
            behavior(rules.clone(), rules)
        };
        let ask = |choice: &str, current: i32, desired: i32| {
            History::default().pace(wish(current, desired), Some(&rules(choice)), 0, at(100)).replicas
        };
        assert_eq!((ask("Max", 10, 90), ask("Min", 10, 90), ask("Disabled", 10, 90)), (15, 13, 10));
        assert_eq!((ask("Max", 10, 1), ask("Min", 10, 1), ask("Disabled", 10, 1)), (5, 7, 10));

        let mut history = History::default();
        let max = rules("Max");
        history.made(Some(&max), 10, 15, at(100));
        let paced = history.pace(wish(15, 90), Some(&max), 0, at(130));
        assert_eq!((paced.replicas, paced.limited), (15, (true, UP_LIMIT)), "five were added in this minute");
        assert_eq!(history.pace(wish(15, 90), Some(&max), 0, at(161)).replicas, 23);
        history.made(Some(&max), 15, 9, at(170));
        let paced = history.pace(wish(9, 1), Some(&max), 0, at(175));
        assert_eq!(
            (paced.replicas, paced.limited),
            (7, (true, DOWN_LIMIT)),
            "half of the fifteen at the minute's start"
        );
    }
}
