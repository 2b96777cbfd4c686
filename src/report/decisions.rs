//! `scheduling.jsonl`: every decision of the scheduler as one line.
//!
//! `t` is in milliseconds of virtual time; `pod`, `attempt`, and `cause`, the event in which the pod came to its turn. Of a pod that
//! goes to a node: `node`, how many nodes were looked at (`evaluated`) and how many of them fit (`feasible`), its `score`, and the
//! `runnerUp` with its `runnerUpScore`; no scores where there was nothing to choose. Of one that fits nowhere: how many `nodes` there
//! are, and `rejections` with `plugin`, `reason` and the number of nodes; `postFilter`, and the node that was `nominated`. Where a
//! plugin failed: `error`.

use serde::{Deserialize, Serialize};

use crate::scheduler::record::{Decided, Verdict};

/// A line.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
#[allow(missing_docs, reason = "the words of the file")]
pub struct Line {
    pub t: u64,
    pub pod: String,
    pub attempt: u32,
    pub cause: u64,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub node: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub evaluated: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub feasible: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub score: Option<i64>,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub runner_up: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub runner_up_score: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub nodes: Option<u64>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub rejections: Vec<Rejected>,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub post_filter: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub nominated: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub error: String,
}

/// A reason for which nodes were rejected.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
#[allow(missing_docs, reason = "the words of the file")]
pub struct Rejected {
    pub plugin: String,
    pub reason: String,
    pub nodes: u64,
}

impl Line {
    /// The line for a decision.
    pub fn new(decided: &Decided) -> Self {
        let mut line = Line {
            t: decided.at.as_millis(),
            pod: format!("{}/{}", decided.namespace, decided.name),
            attempt: decided.attempt,
            cause: decided.cause.0,
            ..Line::default()
        };
        match &decided.verdict {
            Verdict::Node(chosen) => {
                line.node = chosen.node.to_string();
                line.evaluated = Some(chosen.evaluated as u64);
                line.feasible = Some(chosen.feasible as u64);
                line.score = chosen.score;
                if let Some((node, score)) = &chosen.runner_up {
                    (line.runner_up, line.runner_up_score) = (node.to_string(), Some(*score));
                }
            }
            Verdict::Failed(why) => line.error = why.to_string(),
            Verdict::Nowhere { nodes, rejections, post_filter, nominated } => {
                line.nodes = Some(*nodes as u64);
                let rejected = rejections.iter().map(|rejection| Rejected {
                    plugin: rejection.plugin.to_owned(),
                    reason: rejection.reason.to_string(),
                    nodes: rejection.nodes as u64,
                });
                line.rejections = rejected.collect();
                line.post_filter.clone_from(post_filter);
                line.nominated = nominated.as_ref().map(ToString::to_string).unwrap_or_default();
            }
        }
        line
    }

    /// The decision in a sentence.
    pub fn words(&self) -> String {
        let mut words = match (self.node.as_str(), self.evaluated, self.feasible) {
            ("", ..) if !self.error.is_empty() => format!("attempt {}: {}", self.attempt, self.error),
            ("", ..) => format!("attempt {}: fits none of {}", self.attempt, nodes(self.nodes.unwrap_or(0))),
            (node, Some(1), Some(1)) => format!("attempt {}: {node}, the only node looked at", self.attempt),
            (node, evaluated, feasible) => format!(
                "attempt {}: {node}, chosen of {} that fit among {} looked at",
                self.attempt,
                feasible.unwrap_or(0),
                evaluated.unwrap_or(0)
            ),
        };
        if let Some(score) = self.score {
            words.push_str(&format!(", with a score of {score}"));
        }
        match self.runner_up_score {
            Some(score) if Some(score) == self.score => {
                words.push_str(&format!("; {} is as good", self.runner_up));
            }
            Some(score) => words.push_str(&format!("; {} comes next with {score}", self.runner_up)),
            None => {}
        }
        for (place, rejected) in self.rejections.iter().enumerate() {
            let plugin = if rejected.plugin.is_empty() { "PreFilter" } else { &rejected.plugin };
            let between = if place == 0 { ": " } else { ", " };
            words.push_str(&format!("{between}{} {plugin} ({})", rejected.nodes, rejected.reason));
        }
        if !self.nominated.is_empty() {
            words.push_str(&format!("; room is made on {}", self.nominated));
        } else if !self.post_filter.is_empty() {
            words.push_str(&format!("; {}", self.post_filter));
        }
        words
    }
}

fn nodes(count: u64) -> String {
    if count == 1 { "1 node".to_owned() } else { format!("{count} nodes") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_comes_back_as_it_was_and_says_itself_in_a_sentence() {
        let rejected =
            |plugin: &str, reason: &str, nodes| Rejected { plugin: plugin.into(), reason: reason.into(), nodes };
        let nowhere = Line {
            t: 12,
            pod: "default/web-1".into(),
            attempt: 2,
            cause: 7,
            nodes: Some(5),
            rejections: vec![
                rejected("TaintToleration", "node(s) had untolerated taint(s)", 2),
                rejected("", "others", 3),
            ],
            ..Line::default()
        };
        let again: Line = serde_json::from_str(&serde_json::to_string(&nowhere).unwrap()).unwrap();
        assert_eq!(again, nowhere);
        assert_eq!(
            nowhere.words(),
            "attempt 2: fits none of 5 nodes: 2 TaintToleration (node(s) had untolerated taint(s)), 3 PreFilter (others)"
        );
        let mut placed =
            Line { node: "node-2".into(), attempt: 1, evaluated: Some(9), feasible: Some(4), ..Line::default() };
        let words = "attempt 1: node-2, chosen of 4 that fit among 9 looked at";
        assert_eq!(placed.words(), words);
        (placed.score, placed.runner_up, placed.runner_up_score) = (Some(571), "node-7".into(), Some(543));
        assert_eq!(placed.words(), format!("{words}, with a score of 571; node-7 comes next with 543"));
        placed.runner_up_score = Some(571);
        assert_eq!(placed.words(), format!("{words}, with a score of 571; node-7 is as good"));
        let failed = Line { attempt: 3, error: "running \"Fit\" filter plugin: lost".into(), ..Line::default() };
        assert_eq!(failed.words(), "attempt 3: running \"Fit\" filter plugin: lost");
    }
}
