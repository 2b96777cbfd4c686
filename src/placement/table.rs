//! Decisions as text for a terminal: tables of nodes and plugins, in which equal nodes share a row.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use crate::api::name::Name;
use crate::scheduler::evaluate::{Evaluation, NodeOutcome, PluginScores, Preemption};
use crate::scheduler::framework::{Code, Status};

use super::advice::Advice;
use super::count::Count;
use super::decision::Decision;
use super::json;

/// How much is shown.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Extent {
    /// At most so many rows of a table.
    pub rows: usize,
    /// All names of nodes in a row, every plugin that rejects a node, and the tables of every pod.
    pub wide: bool,
}

/// How many names stand in a row that is not wide.
const NAMES: usize = 3;

/// Everything that is to be told of decisions.
pub fn decisions(decisions: &[Decision], extent: Extent) -> String {
    let mut text = String::new();
    if let [only] = decisions {
        detail(only, extent, &mut text);
        return text;
    }
    summary(decisions, extent, &mut text);
    let mut told: Vec<String> = Vec::new();
    for decision in decisions {
        let message = Some(json::message(&decision.evaluation)).filter(|message| !message.is_empty());
        // What many pods are told alike is explained once.
        let is_new = message.is_some_and(|message| {
            let is_new = !told.contains(&message);
            told.push(message);
            is_new
        });
        if extent.wide || is_new {
            text.push('\n');
            detail(decision, extent, &mut text);
        }
    }
    text
}

fn summary(decisions: &[Decision], extent: Extent, text: &mut String) {
    let mut table = Table::new(["POD", "NODE", "TOTAL", "NODES THAT FIT"]);
    for decision in decisions {
        let evaluation = &decision.evaluation;
        let node = match (&decision.chosen, &evaluation.gate) {
            (Some(node), _) => node.to_string(),
            (None, Some(_)) => "(gated)".to_owned(),
            (None, None) => "(none)".to_owned(),
        };
        let total = best_total(evaluation).map_or_else(|| "-".to_owned(), |total| total.to_string());
        let fits = format!("{}/{}", evaluation.feasible.len(), evaluation.nodes.len());
        table.row([decision.pod.clone(), node, total, fits]);
    }
    table.write(extent.rows, "pods", "", text);
    let placed = decisions.iter().filter(|decision| decision.chosen.is_some()).count();
    let _ = writeln!(text, "{placed} of {} pods have a node", decisions.len());
}

fn best_total(evaluation: &Evaluation) -> Option<i64> {
    let best = evaluation.best.first()?;
    let place = evaluation.feasible.iter().position(|feasible| feasible == best)?;
    evaluation.totals.get(place).copied()
}

/// Where a pod goes and why.
fn detail(decision: &Decision, extent: Extent, text: &mut String) {
    let evaluation = &decision.evaluation;
    let _ = writeln!(text, "{}", headline(decision));
    let message = json::message(evaluation);
    if !message.is_empty() {
        let _ = writeln!(text, "  {message}");
    }
    scores(evaluation, extent, text);
    rejections(evaluation, extent, text);
    if let Some(preemption) = &evaluation.preemption {
        room(preemption, extent, text);
    }
    advice(&decision.advice, extent, text);
}

fn headline(decision: &Decision) -> String {
    let (pod, evaluation) = (&decision.pod, &decision.evaluation);
    if let Some(gate) = &evaluation.gate {
        return format!("{pod} is kept out of the queue by {}: {}", gate.name, gate.status.message());
    }
    let (fit, all) = (evaluation.feasible.len(), evaluation.nodes.len());
    let Some(node) = &decision.chosen else {
        return if all == 1 {
            format!("{pod} does not fit the only node")
        } else {
            format!("{pod} fits none of {all} nodes")
        };
    };
    let why = match (fit, evaluation.best.len()) {
        (1, _) => format!("the only one that it fits, of {all}"),
        (_, 1) if best_total(evaluation) < evaluation.totals.iter().copied().max() => {
            format!("which was nominated for it; it fits {fit} of {all} nodes")
        }
        (_, 1) => format!("the best of {fit} nodes that it fits, of {all}"),
        (_, equals) => format!("one of {equals} equally good ones of {fit} nodes that it fits, of {all}"),
    };
    format!("{pod} goes to {node}, {why}")
}

/// Nodes that fit, the best first; those with the same raw scores share a row.
fn scores(evaluation: &Evaluation, extent: Extent, text: &mut String) {
    if evaluation.scores.is_empty() {
        return;
    }
    let mut groups: BTreeMap<(i64, Vec<i64>), Vec<usize>> = BTreeMap::new();
    for at in 0..evaluation.feasible.len() {
        let raw = evaluation.scores.iter().map(|scores| scores.raw[at]).collect();
        groups.entry((-evaluation.totals[at], raw)).or_default().push(at);
    }
    let mut groups: Vec<Vec<usize>> = groups.into_values().collect();
    groups.sort_by_key(|places| (-evaluation.totals[places[0]], places[0]));
    let plugins = evaluation.scores.iter().map(|scores| format!("{} x{}", scores.name, scores.weight));
    let mut table = Table::new(["FITS".to_owned(), "TOTAL".to_owned()].into_iter().chain(plugins));
    for places in groups {
        let names = places.iter().map(|at| &evaluation.nodes[evaluation.feasible[*at]].node);
        let total = evaluation.totals[places[0]].to_string();
        let cells = evaluation.scores.iter().map(|scores| cell(scores, places[0]));
        table.row([nodes(names, extent), total].into_iter().chain(cells));
    }
    text.push('\n');
    table.write(extent.rows, "rows", "  ", text);
    let _ = writeln!(text, "  scores: raw/normalized/weighted, or raw/weighted where a plugin does not normalize");
    if !evaluation.skipped_scores.is_empty() {
        let _ = writeln!(text, "  do not score this pod: {}", evaluation.skipped_scores.join(", "));
    }
}

fn cell(scores: &PluginScores, at: usize) -> String {
    match &scores.normalized {
        Some(normalized) => format!("{}/{}/{}", scores.raw[at], normalized[at], scores.weighted(at)),
        None => format!("{}/{}", scores.raw[at], scores.weighted(at)),
    }
}

/// Nodes that do not fit; those with the same first rejection share a row.
fn rejections(evaluation: &Evaluation, extent: Extent, text: &mut String) {
    if let Some(rejection) = &evaluation.pre_filter.rejected {
        let plugin = rejection.plugin.map_or("several plugins together", |(_, name)| name);
        let _ = writeln!(text, "\n  {plugin} rejects it on all nodes: {}", rejection.status.message());
        return;
    }
    let mut groups: Vec<(Row, Vec<&Name>)> = Vec::new();
    for node in &evaluation.nodes {
        let (plugin, status) = match &node.outcome {
            NodeOutcome::Rejected(said) => (said.name, &said.status),
            NodeOutcome::Excluded(status) => ("(PreFilter)", status),
            NodeOutcome::Fits | NodeOutcome::NotAsked(_) => continue,
        };
        let all = node.rejections.iter().map(|said| said.name).collect::<Vec<_>>();
        let row = Row { plugin, status, all: if extent.wide { all } else { Vec::new() } };
        match groups.iter_mut().find(|(known, _)| *known == row) {
            Some((_, names)) => names.push(&node.node),
            None => groups.push((row, vec![&node.node])),
        }
    }
    if groups.is_empty() {
        return;
    }
    groups.sort_by_key(|(_, names)| std::cmp::Reverse(names.len()));
    let wide = extent.wide.then_some("ALL THAT REJECT");
    let mut table = Table::new(["DOES NOT FIT", "REJECTED BY", "PREEMPTION", "REASON"].into_iter().chain(wide));
    for (row, names) in groups {
        let help = if row.status.code == Code::Unschedulable { "may help" } else { "cannot help" };
        let cells = [nodes(names.into_iter(), extent), row.plugin.to_owned(), help.to_owned(), row.status.message()];
        table.row(cells.into_iter().chain(extent.wide.then(|| row.all.join(", "))));
    }
    text.push('\n');
    table.write(extent.rows, "rows", "  ", text);
}

/// What nodes in one row have in common.
#[derive(PartialEq, Eq)]
struct Row<'e> {
    plugin: &'static str,
    status: &'e Status,
    all: Vec<&'static str>,
}

/// `node-1`, or `12 nodes: node-1, node-2, node-3, ...`.
fn nodes<'n>(names: impl Iterator<Item = &'n Name>, extent: Extent) -> String {
    let names: Vec<&str> = names.map(|name| name.as_str()).collect();
    match names.as_slice() {
        [only] => (*only).to_owned(),
        names if names.len() <= NAMES || extent.wide => format!("{} nodes: {}", names.len(), names.join(", ")),
        names => format!("{} nodes: {}, ...", names.len(), names[..NAMES].join(", ")),
    }
}

/// Where preemption would make room, and who would have to go.
fn room(preemption: &Preemption, extent: Extent, text: &mut String) {
    let Some(best) = preemption.best.first() else {
        let _ = writeln!(text, "\n  Nobody can be sent away for it: {}", preemption.message);
        return;
    };
    let which = match preemption.best.len() {
        1 => String::new(),
        equals => format!(", one of {equals} nodes where as little is lost"),
    };
    let _ = writeln!(text, "\n  Preemption would make room on {best}{which}");
    let is_shown = |node: &Name| extent.wide || node == best;
    let mut table = Table::new(["NODE", "WOULD HAVE TO GO", "BUDGETS BROKEN"]);
    for (node, candidate) in preemption.candidates.iter().filter(|(node, _)| is_shown(node)) {
        let victims = candidate.victims.iter().map(|pod| format!("{}/{}", pod.meta.namespace, pod.meta.name));
        let victims: Vec<String> = victims.collect();
        table.row([node.to_string(), victims.join(", "), candidate.violations.to_string()]);
    }
    table.write(extent.rows, "nodes", "    ", text);
}

fn advice(advice: &[Advice], extent: Extent, text: &mut String) {
    if advice.is_empty() {
        return;
    }
    let _ = writeln!(text, "\n  It would fit if");
    for one in advice {
        let _ = writeln!(text, "    {} ({})", one.change, nodes(one.nodes.iter(), extent));
    }
}

/// How many copies fit, where, and why not one more.
pub fn count(count: &Count, extent: Extent) -> String {
    let copies = if count.copies == 1 { "1 copy".to_owned() } else { format!("{} copies", count.copies) };
    let mut text = match &count.reason {
        Some(reason) => format!("{copies} of {} fit\n  not one more: {reason}\n", count.pod),
        None => format!("at least {copies} of {} fit\n", count.pod),
    };
    let mut groups: BTreeMap<u64, Vec<&Name>> = BTreeMap::new();
    for (node, copies) in &count.by_node {
        groups.entry(*copies).or_default().push(node);
    }
    if !groups.is_empty() {
        let mut table = Table::new(["COPIES EACH", "NODES"]);
        for (copies, names) in groups.into_iter().rev() {
            table.row([copies.to_string(), nodes(names.into_iter(), extent)]);
        }
        text.push('\n');
        table.write(extent.rows, "rows", "  ", &mut text);
    }
    text
}

/// Rows under headings. Headings are broken where a word in them begins, so that columns of numbers stay narrow.
struct Table {
    headings: Vec<Vec<String>>,
    rows: Vec<Vec<String>>,
}

/// Headings are broken to about this width.
const HEADING: usize = 12;

impl Table {
    fn new(headings: impl IntoIterator<Item = impl Into<String>>) -> Self {
        Table { headings: headings.into_iter().map(|heading| broken(&heading.into())).collect(), rows: Vec::new() }
    }

    fn row(&mut self, cells: impl IntoIterator<Item = String>) {
        self.rows.push(cells.into_iter().collect());
    }

    /// At most so many rows, and how many of what there are more.
    fn write(&self, most: usize, what: &str, indent: &str, text: &mut String) {
        let shown = &self.rows[..self.rows.len().min(most)];
        let length = |cell: &str| cell.chars().count();
        let widths: Vec<usize> = (0..self.headings.len())
            .map(|column| {
                let heading = self.headings[column].iter().map(|line| length(line)).max().unwrap_or(0);
                shown.iter().filter_map(|row| row.get(column)).map(|cell| length(cell)).max().unwrap_or(0).max(heading)
            })
            .collect();
        let mut line = |cells: &mut dyn Iterator<Item = &str>| {
            let mut whole = indent.to_owned();
            for (cell, width) in cells.zip(&widths) {
                let _ = write!(whole, "{cell:<width$}  ");
            }
            let _ = writeln!(text, "{}", whole.trim_end());
        };
        let height = self.headings.iter().map(Vec::len).max().unwrap_or(0);
        for at in 0..height {
            let words = self
                .headings
                .iter()
                .map(|heading| (at + heading.len()).checked_sub(height).map_or("", |at| &heading[at]));
            line(&mut words.into_iter());
        }
        for row in shown {
            line(&mut row.iter().map(String::as_str));
        }
        if self.rows.len() > most {
            let _ = writeln!(text, "{indent}... and {} more {what}; --rows 0 shows all", self.rows.len() - most);
        }
    }
}

/// A heading in lines: `NodeResourcesBalancedAllocation x1` as `NodeResources`, `Balanced`, `Allocation x1`.
fn broken(heading: &str) -> Vec<String> {
    if heading.chars().all(|letter| !letter.is_lowercase()) {
        return vec![heading.to_owned()];
    }
    let mut words: Vec<String> = Vec::new();
    let mut before = ' ';
    for letter in heading.chars() {
        match words.last_mut() {
            Some(word) if !(letter.is_uppercase() && before.is_lowercase()) => word.push(letter),
            _ => words.push(letter.to_string()),
        }
        before = letter;
    }
    let mut lines: Vec<String> = Vec::new();
    for word in words {
        match lines.last_mut() {
            Some(line) if line.len() + word.len() <= HEADING => line.push_str(&word),
            _ => lines.push(word),
        }
    }
    lines
}
