//! The one screen of text that answers: did it work, how long did it take, what went wrong.

use std::fmt::{self, Write};

use super::summary::{CountedPods, RolloutSummary, Summary};

/// How many lines each part may take.
const LINES: usize = 12;
/// How wide a sentence may be before it is cut.
const WIDTH: usize = 100;

const BOLD: &str = "\x1b[1m";
const GREEN: &str = "\x1b[32m";
const RED: &str = "\x1b[31m";
const YELLOW: &str = "\x1b[33m";
const PLAIN: &str = "\x1b[0m";

/// The screen, with escape sequences for colours; whoever prints it where they are not wanted strips them.
pub struct Screen<'a>(pub &'a Summary);

impl fmt::Display for Screen<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let summary = self.0;
        let (colour, word) = if summary.success { (GREEN, "passed") } else { (RED, "failed") };
        writeln!(f, "{BOLD}{}{PLAIN}  seed {}  {colour}{word}{PLAIN}", summary.scenario, summary.seed)?;
        let trouble = summary.trouble.as_deref().map(|trouble| format!(": {}", cut(trouble))).unwrap_or_default();
        writeln!(f, "{} after {} of virtual time{trouble}", summary.ending, span(summary.ended_at))?;
        self.expectations(f)?;
        self.steps(f)?;
        self.rollouts(f)?;
        self.pending(f)?;
        self.twins(f)?;
        self.counts(f)?;
        writeln!(f, "\ndigest {} after {} events", summary.digest, summary.events)
    }
}

impl Screen<'_> {
    fn expectations(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let all = &self.0.expectations;
        if all.is_empty() {
            return Ok(());
        }
        let met = all.iter().filter(|one| one.met).count();
        heading(f, &format!("expectations: {met} of {} met", all.len()))?;
        // The broken ones are what matters: they come first and are all shown.
        for one in all.iter().filter(|one| !one.met) {
            let at = one.at.map(|at| format!(" at {}", clock(at))).unwrap_or_default();
            writeln!(f, "  {RED}broken{PLAIN}  {}{at}", one.name)?;
            writeln!(f, "          {}", cut(&one.text))?;
            let event = one.cause.map(|cause| format!(" (event {cause})")).unwrap_or_default();
            let object = one.object.as_deref().map(|object| format!(": {object}{event}")).unwrap_or(event);
            writeln!(f, "          {}{object}", cut(&one.why))?;
        }
        let good = all.iter().filter(|one| one.met);
        list(f, good, |one| format!("{GREEN}met{PLAIN}     {}", cut(&one.name)))
    }

    fn steps(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.steps.is_empty() {
            return Ok(());
        }
        heading(f, "steps")?;
        let steps: Vec<_> = self.0.steps.iter().filter(|step| step.state == "done").collect();
        for step in self.0.steps.iter().filter(|step| step.state != "done") {
            let at = step.began.map_or_else(|| "-".to_owned(), clock);
            writeln!(f, "  {at:>12}  {RED}{:8}{PLAIN}{}", step.state, cut(&step.label))?;
            if let Some(error) = &step.error {
                writeln!(f, "                        {}", cut(error))?;
            }
        }
        list(f, steps.iter(), |step| {
            let at = step.began.map_or_else(|| "-".to_owned(), clock);
            format!("{at:>12}  {GREEN}{:8}{PLAIN}{}", step.state, cut(&step.label))
        })
    }

    fn rollouts(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.rollouts.is_empty() {
            return Ok(());
        }
        let mut rows = vec![
            ["deployment", "rollout", "began", "took", "available", "pods", "result", "images"].map(str::to_owned),
        ];
        rows.extend(self.0.rollouts.iter().take(LINES).map(rollout_cells));
        heading(f, "rollouts")?;
        table(f, &rows)?;
        more(f, self.0.rollouts.len())
    }

    fn pending(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let groups = &self.0.pending;
        if groups.is_empty() {
            return Ok(());
        }
        let count: usize = groups.iter().map(|group| group.count).sum();
        heading(f, &format!("pods that do not run as they should: {count}"))?;
        list(f, groups.iter(), |group| {
            let message = cut(&group.message);
            format!("{:>4}  {}  {YELLOW}{}{PLAIN}  {message}", group.count, group.owner, group.reason)
        })
    }

    fn twins(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let twins = &self.0.twins;
        if twins.is_empty() {
            return Ok(());
        }
        heading(f, "pods of one name that ran at once")?;
        list(f, twins.iter(), |one| {
            let end = one.ended.map_or_else(|| "the end".to_owned(), clock);
            format!("{RED}{}{PLAIN}  {} to {end}  on {}", one.pod, clock(one.began), one.nodes.join(", "))
        })
    }

    fn counts(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Summary { pods, restarts, disruptions, nodes, api, etcd, .. } = self.0;
        writeln!(f)?;
        write!(f, "pods       {} created, {} gone, {} ready at the end", pods.created, pods.gone, pods.ready)?;
        match &pods.time_to_ready {
            Some(ready) => writeln!(f, "; ready after {} (half), {} (slowest)", span(ready.p50), span(ready.max))?,
            None => writeln!(f)?,
        }
        writeln!(f, "restarts   {}", counted(restarts))?;
        let evictions: u64 = disruptions.values().map(|one| one.count).sum();
        write!(f, "evictions  {evictions}")?;
        for (reason, one) in disruptions {
            write!(f, "  {reason} {}", counted(one))?;
        }
        writeln!(f)?;
        let losses = match nodes.losses {
            0 => String::new(),
            1 => ", 1 ceased to be ready".to_owned(),
            count => format!(", {count} times one ceased to be ready"),
        };
        writeln!(f, "nodes      {} registered, {} removed{losses}", nodes.registered, nodes.removed)?;
        writeln!(f, "API        {} writes, {} conflicts", api.writes, api.conflicts)?;
        writeln!(f, "etcd       {} leader changes", etcd.leader_changes)
    }
}

fn rollout_cells(rollout: &RolloutSummary) -> [String; 8] {
    let lowest = match rollout.reason {
        "created" => "-".to_owned(),
        _ => format!(">= {}", rollout.lowest_available),
    };
    [
        rollout.deployment.clone(),
        rollout.reason.to_owned(),
        clock(rollout.began),
        rollout.duration.map_or_else(|| "-".to_owned(), span),
        format!("{lowest} of {}", rollout.replicas),
        format!("<= {}", rollout.most_replicas),
        match rollout.deadline_exceeded {
            Some(at) => format!("{} at {}", rollout.result, clock(at)),
            None => rollout.result.to_owned(),
        },
        rollout.images.clone(),
    ]
}

fn counted(counted: &CountedPods) -> String {
    match counted.pods.as_slice() {
        [] => counted.count.to_string(),
        [only] => format!("{} ({only})", counted.count),
        [first, ..] => format!("{} ({first}, ...)", counted.count),
    }
}

fn heading(f: &mut fmt::Formatter<'_>, title: &str) -> fmt::Result {
    writeln!(f, "\n{BOLD}{title}{PLAIN}")
}

/// At most so many lines, and how many more there are.
fn list<T>(f: &mut fmt::Formatter<'_>, items: impl Iterator<Item = T>, line: impl Fn(T) -> String) -> fmt::Result {
    let mut count = 0;
    for item in items {
        count += 1;
        if count <= LINES {
            writeln!(f, "  {}", line(item))?;
        }
    }
    more(f, count)
}

fn more(f: &mut fmt::Formatter<'_>, count: usize) -> fmt::Result {
    if count > LINES { writeln!(f, "  and {} more", count - LINES) } else { Ok(()) }
}

/// Columns as wide as their widest cell.
fn table<const N: usize>(f: &mut fmt::Formatter<'_>, rows: &[[String; N]]) -> fmt::Result {
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..N).map(width).collect();
    for row in rows {
        let mut line = String::from(" ");
        for (cell, width) in row.iter().zip(&widths) {
            write!(line, " {cell:width$} ")?;
        }
        writeln!(f, "{}", line.trim_end())?;
    }
    Ok(())
}

/// A sentence on one line.
fn cut(text: &str) -> String {
    let text: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    if text.chars().count() <= WIDTH {
        return text;
    }
    let kept: String = text.chars().take(WIDTH - 3).collect();
    format!("{kept}...")
}

fn clock(seconds: f64) -> String {
    format!("{seconds:.3} s")
}

fn span(seconds: f64) -> String {
    super::table::length(crate::engine::time::SimDuration::from_nanos((seconds * 1e9).round() as u64))
}
