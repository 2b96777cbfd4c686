//! The line on stderr that shows how far a run is.

#![expect(clippy::disallowed_types, reason = "how fast a run goes is shown to people and never reaches the run")]

use std::borrow::Cow;
use std::time::Duration;
use std::time::Instant;

use indicatif::{HumanCount, ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::engine::time::SimTime;

/// How often the line is drawn anew.
const PERIOD: Duration = Duration::from_millis(100);
/// How many calls go by before the wall clock is looked at.
const CALLS: u32 = 256;

/// The line, and the wall-clock time that the run takes.
pub(super) struct Progress {
    bar: ProgressBar,
    began: Instant,
    drawn: Instant,
    calls: u32,
}

impl Progress {
    /// Begins to count time; a quiet line, or one that no terminal would show, is never drawn.
    pub fn new(quiet: bool) -> Self {
        let target = if quiet { ProgressDrawTarget::hidden() } else { ProgressDrawTarget::stderr() };
        let bar = ProgressBar::with_draw_target(None, target);
        if let Ok(style) = ProgressStyle::with_template("{spinner} {wide_msg}") {
            bar.set_style(style);
        }
        let now = Instant::now();
        Progress { bar, began: now, drawn: now, calls: 0 }
    }

    /// Shows how far the run is, now and then; `awaited` is asked only when it is shown.
    pub fn show<'a>(&mut self, now: SimTime, events: u64, awaited: impl FnOnce() -> Cow<'a, str>) {
        self.calls += 1;
        if self.calls < CALLS || self.bar.is_hidden() {
            return;
        }
        self.calls = 0;
        let wall = Instant::now();
        if wall.duration_since(self.drawn) < PERIOD {
            return;
        }
        self.drawn = wall;
        let per_second = events as f64 / self.elapsed().as_secs_f64().max(1e-3);
        let (count, speed) = (HumanCount(events), HumanCount(per_second as u64));
        let millis = now.as_millis();
        let time = format!("{}.{} s", millis / 1000, millis % 1000 / 100);
        self.bar.set_message(format!("{time:>10}  {count} events  {speed}/s  {}", awaited()));
        self.bar.tick();
    }

    /// Wall-clock time since the run began.
    pub fn elapsed(&self) -> Duration {
        Instant::now().duration_since(self.began)
    }

    /// Takes the line away.
    pub fn finish(&self) {
        self.bar.finish_and_clear();
    }
}
