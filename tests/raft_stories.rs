//! Stories about small groups: each file in tests/raft is a script of commands, each followed by `----` and all that
//! happened. Set UPDATE_EXPECT=1 to write what happens into the files, and review the difference.
//!
//! Commands (members are named by their ids):
//!
//! - `group N [no-pre-vote] [no-check-quorum] [small-messages] [window=N]`: N founders, all up
//! - `add-machine ID`: a machine with an empty disk for a member that will join
//! - `campaign ID`, `tick ID N`, `propose ID WORD...`, `read ID CONTEXT`, `transfer ID TO`
//! - `change ID add-voter|add-learner|remove MEMBER`: proposes a membership change at ID
//! - `begin ID`: takes one batch, sends what need not wait for the disk, begins to write
//! - `end ID`: the write ends, what waited for it is sent
//! - `deliver [to=ID] [N]`: mail arrives, all of it or the first N messages
//! - `lose [to=ID] [from=ID]`: mail is lost
//! - `settle [ID...]`: these members (or all) write, send and receive until nothing is left; other mail stays
//! - `quiet COMMAND`: does it and says nothing
//! - `crash ID`, `restart ID`, `unreachable ID TO`, `snapshot ID KEEP`, `snapshot-lost ID TO`, `compact ID INDEX`
//! - `status [ID...]`, `log ID`, `progress ID`, `applied ID`

mod raft_support;

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use kubesim::etcd::raft::{
    Body, ChangeKind, ConfigurationChange, Entry, MemberId, Payload, ProgressState, Role, Settings, StepError,
};
use raft_support::{Batch, Failure, Group, Mail, Word};

type Outcome = Result<(), Failure>;

struct Story {
    group: Group,
    told: String,
}

macro_rules! tell {
    ($story:expr, $($words:tt)*) => { writeln!($story.told, $($words)*).expect("a string takes everything") };
}

impl Story {
    fn new() -> Story {
        Story { group: Group::new(1, Settings::default(), 0), told: String::new() }
    }

    /// Does what one line says and answers what happened.
    fn run(&mut self, line: &str) -> String {
        self.told.clear();
        let words: Vec<&str> = line.split_whitespace().collect();
        if let Err(failure) = self.command(&words) {
            tell!(self, "FAILURE {failure:?}");
        }
        if let Err(failure) = self.group.check_everything() {
            tell!(self, "FAILURE {failure:?}");
        }
        if self.told.is_empty() {
            self.told.push_str("ok\n");
        }
        self.told.clone()
    }

    fn command(&mut self, words: &[&str]) -> Outcome {
        let id = |position: usize| number(words.get(position).copied());
        match words[0] {
            "quiet" => {
                self.command(&words[1..])?;
                self.told.clear();
            }
            "group" => self.form_group(&words[1..]),
            "add-machine" => self.group.add_machine(id(1)),
            "campaign" => self.act(id(1), |member| {
                member.campaign();
                Ok(())
            })?,
            "tick" => {
                for _ in 0..id(2) {
                    self.act(id(1), |member| {
                        member.tick();
                        Ok(())
                    })?;
                }
            }
            "propose" => {
                for word in &words[2..] {
                    let word = Word(Rc::from(*word));
                    self.act(id(1), |member| member.propose(word))?;
                }
            }
            "read" => self.act(id(1), |member| {
                member.read_index(id(2));
                Ok(())
            })?,
            "transfer" => self.act(id(1), |member| {
                member.transfer_leader(MemberId(id(2)));
                Ok(())
            })?,
            "change" => {
                let kind = match words[2] {
                    "add-voter" => ChangeKind::AddVoter,
                    "add-learner" => ChangeKind::AddLearner,
                    "remove" => ChangeKind::Remove,
                    other => panic!("no such change: {other}"),
                };
                let change = ConfigurationChange { member: MemberId(id(3)), kind };
                self.act(id(1), |member| member.propose_configuration_change(change))?;
            }
            "begin" => {
                if !self.begin(id(1))? {
                    tell!(self, "{} has nothing to do", id(1));
                }
            }
            "end" => self.end(id(1))?,
            "deliver" => self.deliver(&words[1..])?,
            "lose" => self.lose(&words[1..]),
            "settle" => self.settle(&words[1..])?,
            "crash" => self.group.crash(id(1), false)?,
            "restart" => {
                self.group.restart(id(1))?;
                self.status(id(1));
            }
            "unreachable" => self.act(id(1), |member| {
                member.report_unreachable(MemberId(id(2)));
                Ok(())
            })?,
            "snapshot" => {
                if !self.group.snapshot(id(1), id(2)) {
                    tell!(self, "refused");
                }
            }
            "snapshot-lost" => self.act(id(1), |member| {
                member.report_snapshot(MemberId(id(2)), false);
                Ok(())
            })?,
            "compact" => {
                let result = self.group.member(id(1)).expect("it is up").compact(id(2));
                if let Err(error) = result {
                    tell!(self, "refused: {error}");
                }
            }
            "status" if words.len() == 1 => self.group.ids().into_iter().for_each(|id| self.status(id)),
            "status" => words[1..].iter().for_each(|word| self.status(number(Some(word)))),
            "log" => self.log(id(1)),
            "progress" => self.progress(id(1)),
            "applied" => {
                let words: Vec<&str> = self.group.machine(id(1)).applied.iter().map(|word| &*word.0).collect();
                let words = words.join(" ");
                tell!(self, "{} applied: {words}", id(1));
            }
            other => panic!("no such command: {other}"),
        }
        Ok(())
    }

    fn form_group(&mut self, words: &[&str]) {
        let mut settings = Settings::default();
        for word in &words[1..] {
            match word.split_once('=').unwrap_or((word, "")) {
                ("no-pre-vote", _) => settings.pre_vote = false,
                ("no-check-quorum", _) => settings.check_quorum = false,
                ("small-messages", _) => settings.message_limit_bytes = 1,
                ("window", size) => settings.in_flight_messages = number(Some(size)) as usize,
                (other, _) => panic!("no such setting: {other}"),
            }
        }
        self.group = Group::new(1, settings, number(words.first().copied()));
    }

    /// Does something to a member and tells what it has become.
    fn act(&mut self, id: u64, action: impl FnOnce(&mut raft_support::Member) -> Result<(), StepError>) -> Outcome {
        let before = self.group.member(id).map(|member| (member.role(), member.term(), member.leader()));
        let done = self.group.act(id, action)?;
        if done.is_none() && before.is_some() {
            tell!(self, "{id} drops the proposal");
        }
        let after = self.group.member(id).map(|member| (member.role(), member.term(), member.leader()));
        if let Some((role, term, leader)) = after
            && before != after
        {
            let leader = leader.map_or("nobody".to_owned(), |leader| leader.to_string());
            tell!(self, "{id} is now {role} in term {term}, led by {leader}");
        }
        Ok(())
    }

    fn begin(&mut self, id: u64) -> Result<bool, Failure> {
        let queued = self.group.mail.len();
        if !self.group.begin_batch(id)? {
            return Ok(false);
        }
        let machine = self.group.machine(id);
        let batch = machine.writing.clone().expect("the batch was begun");
        let reads = std::mem::take(&mut machine.reads);
        tell!(self, "{id} {}", batch_text(&batch));
        for read in reads {
            tell!(self, "  read {} may be served at {}", read.context, read.index);
        }
        self.tell_sent(queued);
        Ok(true)
    }

    fn end(&mut self, id: u64) -> Outcome {
        let queued = self.group.mail.len();
        let before = self.group.member(id).map(|member| (member.role(), member.term()));
        if self.group.end_batch(id)? {
            tell!(self, "{id} written");
        }
        self.tell_sent(queued);
        let after = self.group.member(id).map(|member| (member.role(), member.term()));
        if let Some((role, term)) = after
            && before != after
        {
            tell!(self, "{id} is now {role} in term {term}");
        }
        Ok(())
    }

    fn tell_sent(&mut self, queued: usize) {
        for position in queued..self.group.mail.len() {
            let text = mail_text(&self.group.mail[position]);
            tell!(self, "  sends {text}");
        }
    }

    fn deliver(&mut self, words: &[&str]) -> Outcome {
        let to = words.iter().find_map(|word| word.strip_prefix("to=")).map(|id| number(Some(id)));
        let limit = words.iter().find_map(|word| word.parse().ok()).unwrap_or(usize::MAX);
        let mut kept = Vec::new();
        let mut arrived = 0;
        for message in std::mem::take(&mut self.group.mail) {
            if arrived < limit && to.is_none_or(|to| message.to.0 == to) {
                arrived += 1;
                self.arrive(message)?;
            } else {
                kept.push(message);
            }
        }
        kept.append(&mut self.group.mail);
        self.group.mail = kept;
        Ok(())
    }

    fn arrive(&mut self, message: Mail) -> Outcome {
        let to = message.to.0;
        tell!(self, "{}", mail_text(&message));
        if self.group.machines.get(&to).is_some_and(|machine| machine.member.is_some()) {
            self.act(to, |member| member.step(message))
        } else {
            tell!(self, "  {to} is down");
            Ok(())
        }
    }

    fn lose(&mut self, words: &[&str]) {
        let end =
            |name: &str| words.iter().find_map(|word| word.strip_prefix(name)).map(|id| MemberId(number(Some(id))));
        let (to, from) = (end("to="), end("from="));
        let (lost, kept) = std::mem::take(&mut self.group.mail)
            .into_iter()
            .partition(|message| to.is_none_or(|to| message.to == to) && from.is_none_or(|from| message.from == from));
        self.group.mail = kept;
        let lost: Vec<Mail> = lost;
        for message in lost {
            tell!(self, "lost: {}", mail_text(&message));
        }
    }

    fn settle(&mut self, words: &[&str]) -> Outcome {
        let ids: Vec<u64> = match words {
            [] => self.group.ids(),
            words => words.iter().map(|word| number(Some(word))).collect(),
        };
        loop {
            let mut worked = false;
            for id in &ids {
                if self.group.machine(*id).writing.is_some() {
                    self.end(*id)?;
                }
                while self.begin(*id)? {
                    self.end(*id)?;
                    worked = true;
                }
            }
            let (mine, others): (Vec<Mail>, Vec<Mail>) = std::mem::take(&mut self.group.mail)
                .into_iter()
                .partition(|message| ids.contains(&message.to.0) && ids.contains(&message.from.0));
            self.group.mail = others;
            if !worked && mine.is_empty() {
                return Ok(());
            }
            for message in mine {
                self.arrive(message)?;
            }
        }
    }

    fn status(&mut self, id: u64) {
        let machine = &self.group.machines[&id];
        let Some(member) = &machine.member else {
            tell!(self, "{id} is down");
            return;
        };
        let log = member.log();
        let leader = member.leader().map_or("nobody".to_owned(), |leader| leader.to_string());
        let vote = member.vote().map_or("nobody".to_owned(), |vote| vote.to_string());
        let text = format!(
            "{id} {} term {} leader {leader} vote {vote} log {}..{}/{} commit {} applied {} durable {} ({})",
            member.role(),
            member.term(),
            log.first_index(),
            log.last().term,
            log.last().index,
            log.committed(),
            log.applied(),
            log.durable(),
            member.configuration()
        );
        tell!(self, "{text}");
    }

    fn log(&mut self, id: u64) {
        let log = self.group.member(id).expect("it is up").log();
        let text = entries_text(log.entries(0, u64::MAX));
        tell!(self, "{id} log: {text}");
    }

    fn progress(&mut self, id: u64) {
        let member = self.group.member(id).expect("it is up");
        assert_eq!(member.role(), Role::Leader, "only a leader knows");
        for peer in member.progress().to_vec() {
            let state = match peer.state {
                ProgressState::Probe => "probe".to_owned(),
                ProgressState::Replicate => "replicate".to_owned(),
                ProgressState::Snapshot { pending } => format!("snapshot {pending}"),
            };
            let mut text = format!("{}: {state} matched {} next {}", peer.id, peer.matched, peer.next);
            for (shown, word) in
                [(peer.is_learner, "learner"), (peer.is_paused(), "paused"), (!peer.recently_active, "silent")]
            {
                if shown {
                    text = format!("{text} {word}");
                }
            }
            if peer.in_flight() > 0 {
                text = format!("{text} in flight {}", peer.in_flight());
            }
            tell!(self, "{text}");
        }
    }
}

fn number(word: Option<&str>) -> u64 {
    word.and_then(|word| word.parse().ok()).expect("a number is missing")
}

fn entries_text<'a>(entries: impl IntoIterator<Item = &'a Entry<Word>>) -> String {
    let entries: Vec<String> = entries
        .into_iter()
        .map(|entry| {
            let data = match &entry.data {
                Payload::Empty => String::new(),
                Payload::Normal(word) => format!(" {}", word.0),
                Payload::Configuration(change) => format!(" <{change}>"),
            };
            format!("{}/{}{data}", entry.term, entry.index)
        })
        .collect();
    format!("[{}]", entries.join(", "))
}

fn batch_text(batch: &Batch) -> String {
    let mut parts = Vec::new();
    if let Some(hard_state) = batch.hard_state {
        let vote = hard_state.vote.map_or("nobody".to_owned(), |vote| vote.to_string());
        parts.push(format!("term {} vote {vote} commit {}", hard_state.term, hard_state.commit));
    }
    if let Some(snapshot) = &batch.snapshot {
        parts.push(format!("snapshot {}/{}", snapshot.last.term, snapshot.last.index));
    }
    if !batch.entries.is_empty() {
        parts.push(format!("entries {}", entries_text(&batch.entries)));
    }
    let mut text = match (parts.is_empty(), batch.must_sync) {
        (true, _) => "writes nothing".to_owned(),
        (false, true) => format!("writes and syncs {}", parts.join(", ")),
        (false, false) => format!("writes {}", parts.join(", ")),
    };
    if !batch.committed.is_empty() {
        text = format!("{text}; applies {}", entries_text(&batch.committed));
    }
    text
}

fn mail_text(message: &Mail) -> String {
    let vote = |pre: bool| if pre { "pre-vote" } else { "vote" };
    let body = match &message.body {
        Body::Append { previous, entries, commit } => {
            let entries = entries_text(entries);
            format!("append after {}/{} {entries} commit {commit}", previous.term, previous.index)
        }
        Body::Appended { index } => format!("appended up to {index}"),
        Body::AppendRejected { index, hint } => {
            format!("append after {index} rejected, hint {}/{}", hint.term, hint.index)
        }
        Body::Heartbeat { commit, read_position: 0 } => format!("heartbeat commit {commit}"),
        Body::Heartbeat { commit, read_position } => format!("heartbeat commit {commit} reads {read_position}"),
        Body::HeartbeatAnswer { read_position: 0 } => "heartbeat answer".to_owned(),
        Body::HeartbeatAnswer { read_position } => format!("heartbeat answer reads {read_position}"),
        Body::Vote { pre_vote, last, transfer } => {
            let transfer = if *transfer { " for transfer" } else { "" };
            format!("{} request with log up to {}/{}{transfer}", vote(*pre_vote), last.term, last.index)
        }
        Body::VoteAnswer { pre_vote, granted } => {
            format!("{} {}", vote(*pre_vote), if *granted { "granted" } else { "refused" })
        }
        Body::Snapshot(snapshot) => format!("snapshot {}/{}", snapshot.last.term, snapshot.last.index),
        Body::Propose { payloads } => format!("proposal of {}", payloads.len()),
        Body::ReadIndex { context } => format!("read index request {context}"),
        Body::ReadIndexAnswer { index, context } => format!("read index of {context} is {index}"),
        Body::TransferLeader { transferee } => format!("transfer to {transferee}"),
        Body::TimeoutNow => "timeout now".to_owned(),
    };
    format!("{}->{} term {}: {body}", message.from, message.to, message.term)
}

/// Runs one file; answers what it should look like.
fn rewrite(script: &str) -> String {
    let mut story = Story::new();
    let mut told = String::new();
    let mut lines = script.lines().peekable();
    while let Some(line) = lines.next() {
        told.push_str(line);
        told.push('\n');
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        if lines.peek() == Some(&"----") {
            while lines.peek().is_some_and(|line| !line.is_empty()) {
                lines.next();
            }
        }
        told.push_str("----\n");
        told.push_str(&story.run(line));
    }
    told
}

fn check(name: &str) {
    let path: PathBuf = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/raft").join(name).with_extension("txt");
    let script = fs::read_to_string(&path).expect("the story is missing");
    let told = rewrite(&script);
    assert!(!told.contains("FAILURE"), "{told}");
    if std::env::var_os("UPDATE_EXPECT").is_some() {
        fs::write(&path, told).expect("the story cannot be written");
    } else {
        assert_eq!(told, script, "set UPDATE_EXPECT=1 to accept");
    }
}

macro_rules! stories {
    ($($name:ident),* $(,)?) => { $(#[test] fn $name() { check(stringify!($name)); })* };
}

stories!(
    election,
    pre_vote,
    check_quorum,
    probe_and_replicate,
    snapshot_catch_up,
    lost_unsynced_data,
    leader_transfer,
    learner_promotion,
    read_index_before_first_commit,
    configuration_changes,
    window,
    stale_leader_log,
);

#[test]
fn every_story_is_told() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/raft");
    let files = fs::read_dir(folder).expect("the folder is missing").count();
    assert_eq!(files, 12, "a story that is not in the list above never runs");
}
