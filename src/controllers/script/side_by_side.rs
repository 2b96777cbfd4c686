//! Several pieces of code at the same time, as the goroutines of a real controller that each take the next piece of work
//! when they are done with one (client-go, workqueue: `ParallelizeUntil`).
//!
//! All make their next request at once and wait until all are answered. A client's rate limit takes requests in the order in
//! which they are made, so the pieces get on as they would each for itself.

use std::cell::RefCell;
use std::rc::Rc;

use crate::client::plan::{Outcome, Request, Step};
use crate::client::view::Now;

use super::{Halt, Moment, Script};

/// What is known of the pieces. It stays from run to run of the code around them, which therefore need not know their answers.
#[derive(Default)]
struct Pieces {
    /// Those that have begun and have not ended.
    active: Vec<Piece>,
    /// How many have begun.
    begun: usize,
    /// True while the last requests are not answered.
    waits: bool,
    /// When the last ones were answered.
    answered: Option<Now>,
}

/// One piece.
struct Piece {
    index: usize,
    past: Vec<Moment>,
    /// How many requests of its own are under way.
    asked: usize,
}

impl Pieces {
    /// Gives each piece the answers to its requests.
    fn take(&mut self, outcomes: Vec<Outcome>, now: Now) {
        let mut outcomes = outcomes.into_iter();
        for piece in &mut self.active {
            piece.past.push(Moment::Answered(outcomes.by_ref().take(piece.asked).collect(), now));
        }
        (self.waits, self.answered) = (false, Some(now));
    }
}

impl Script<'_> {
    /// Runs pieces of code from the first to the last, at most `width` at a time. A piece that fails ends; the others go on.
    pub fn side_by_side(
        &mut self,
        width: usize,
        count: usize,
        body: impl Fn(&mut Script<'_>, usize) -> Result<(), Halt>,
    ) -> Result<(), Halt> {
        let pieces = self.see(|_| Rc::new(RefCell::new(Pieces::default())));
        let mut pieces = pieces.borrow_mut();
        if pieces.waits
            && let Some(Moment::Answered(..)) = self.past.get(self.read)
            && let Some(Moment::Answered(outcomes, now)) = self.past.pop()
        {
            pieces.take(outcomes, now);
        }
        if let Some(now) = pieces.answered {
            self.now = now;
            self.steps.clear(); // They were made before the first answer.
        }
        let requests = self.next_requests(&mut pieces, width, count, body);
        if requests.is_empty() {
            return Ok(());
        }
        pieces.waits = true;
        self.steps.push(Step::Parallel(requests));
        Err(Halt::Waiting)
    }

    /// Carries each piece on until it waits or ends, and begins others in the place of those that end.
    fn next_requests(
        &mut self,
        pieces: &mut Pieces,
        width: usize,
        count: usize,
        body: impl Fn(&mut Script<'_>, usize) -> Result<(), Halt>,
    ) -> Vec<Request> {
        let room = width.min(pieces.active.len() + count - pieces.begun);
        let mut requests = Vec::with_capacity(room);
        let mut going = std::mem::replace(&mut pieces.active, Vec::with_capacity(room)).into_iter();
        while pieces.active.len() < width {
            let next = going.next().or_else(|| {
                let index = pieces.begun;
                pieces.begun += usize::from(index < count);
                (index < count).then(|| Piece { index, past: Vec::new(), asked: 0 })
            });
            let Some(Piece { index, past, .. }) = next else { break };
            let mut script = Script { view: self.view, now: self.now, past, read: 0, steps: Vec::new(), last: None };
            let result = body(&mut script, index);
            let before = requests.len();
            for step in script.steps {
                match step {
                    Step::Request(request) => requests.push(request),
                    Step::Parallel(several) => requests.extend(several),
                    other => self.steps.push(other),
                }
            }
            if let Err(Halt::Waiting) = result {
                pieces.active.push(Piece { index, past: script.past, asked: requests.len() - before });
            }
        }
        requests
    }
}

#[cfg(test)]
mod tests {
    use super::super::*;
    use crate::api::kind::Kind;
    use crate::api::meta::{Epoch, ObjectKey};
    use crate::client::plan::Plan;
    use crate::client::view::Cache;
    use crate::engine::time::SimTime;
    use std::cell::Cell;

    fn get(name: String) -> Operation {
        Operation::Get { key: ObjectKey::new(Kind::Pod, "default", name) }
    }

    fn asked(plan: &Plan) -> Vec<String> {
        let name = |request: &Request| match &request.operation {
            Operation::Get { key } => key.name.to_string(),
            other => panic!("{other:?}"),
        };
        let of = |step: &Step| match step {
            Step::Parallel(requests) => requests.iter().map(name).collect::<Vec<_>>(),
            Step::Request(request) => vec![name(request)],
            Step::Record(note) => vec![format!("note {}", note.message)],
            _ => Vec::new(),
        };
        plan.steps.iter().flat_map(of).collect()
    }

    #[test]
    fn pieces_wait_together_and_each_that_ends_makes_room_for_the_next() {
        let (cache, effects) = (Cache::default(), Rc::new(Cell::new(0)));
        let now = |ns: u64| Now { at: SimTime::from_nanos(ns), epoch: Epoch(0) };
        let (about, counted) = (ObjectReference::default(), Rc::clone(&effects));
        let plan = run(&cache.view(), now(1), move |script| {
            script.record(&about, EventType::Normal, "Begun", "begun".to_owned());
            // The first asks three times, the others once.
            script.side_by_side(2, 4, |script, index| {
                for time in 0..if index == 0 { 3 } else { 1 } {
                    let _ = script.ask(get(format!("{index}.{time}")))?;
                    script.once(|| {
                        counted.set(counted.get() + 1);
                        true
                    });
                    script.record(&about, EventType::Normal, "Done", format!("{index}.{time}"));
                }
                Ok(())
            })?;
            let _ = script.ask(get(format!("last at {}", script.now().at.as_nanos())))?;
            Ok(Again::OnChange)
        });
        let mut rounds = vec![asked(&plan)];
        let mut plan = plan;
        for at in 2.. {
            let requests = rounds.last().into_iter().flatten().filter(|it| !it.starts_with("note")).count();
            let answers: Vec<Outcome> = (0..requests).map(|_| Ok(Answer::Done)).collect();
            let Some(then) = plan.then else { break };
            plan = then(&cache.view(), &answers, now(at));
            rounds.push(asked(&plan));
        }
        assert_eq!(rounds[0], ["note begun", "0.0", "1.0"]);
        assert_eq!(rounds[1], ["note 0.0", "note 1.0", "0.1", "2.0"]);
        assert_eq!(rounds[2], ["note 0.1", "note 2.0", "0.2", "3.0"]);
        assert_eq!(rounds[3], ["note 0.2", "note 3.0", "last at 4"]);
        assert_eq!(rounds[4], [""; 0]);
        assert_eq!(rounds.len(), 5);
        assert_eq!(effects.get(), 6, "each effect once");
    }
}
