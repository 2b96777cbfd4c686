//! What the core wants done: persist this, send that, apply these. The core itself does nothing.

use std::rc::Rc;

use super::entry::{Entry, EntryId};
use super::message::Message;
use super::snapshot::Snapshot;
use super::{Index, MemberId, Role, Term};

/// What must survive a crash beside entries and snapshot. Losing a later `commit` does no harm; `term` and `vote` must be
/// durable before any message that depends on them is sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HardState {
    /// The latest term the member has seen.
    pub term: Term,
    /// Whom it has voted for in that term.
    pub vote: Option<MemberId>,
    /// The highest index known to be committed.
    pub commit: Index,
}

/// What the member is and whom it follows; for reports, never persisted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SoftState {
    /// The leader of the current term, if known.
    pub leader: Option<MemberId>,
    /// What the member is.
    pub role: Role,
}

/// A read that may be served once everything up to `index` is applied here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReadState {
    /// The index to wait for.
    pub index: Index,
    /// The context given to `read_index`.
    pub context: u64,
}

/// A batch of work. The order: publish `soft_state`, hand `read_states` and `committed` to the application, send
/// `messages_before_sync`, write `snapshot`, `entries` and `hard_state` (and sync if `must_sync`), send
/// `messages_after_sync`, then give `receipt` back to `advance`. Reuse one value, so that its buffers are allocated once.
#[derive(Clone, Debug, PartialEq)]
pub struct Ready<P, S> {
    /// The new role or leader, if either changed.
    pub soft_state: Option<SoftState>,
    /// Reads that may be served once their index is applied.
    pub read_states: Vec<ReadState>,
    /// The hard state to write, if it changed.
    pub hard_state: Option<HardState>,
    /// Whether the write must be durable before anything in `messages_after_sync` is sent: entries, term or vote changed.
    pub must_sync: bool,
    /// A snapshot received from the leader, which replaces the whole log and the application's state.
    pub snapshot: Option<Rc<Snapshot<S>>>,
    /// Entries to write. The first one replaces whatever the disk holds from its index on.
    pub entries: Vec<Entry<P>>,
    /// Entries to apply, in order. The application may apply them while the write is under way.
    pub committed: Vec<Entry<P>>,
    /// Messages that need not wait for the write. Only a leader has them: its followers' disks work in parallel with its own.
    pub messages_before_sync: Vec<Message<P, S>>,
    /// Messages that tell of something which must be durable first.
    pub messages_after_sync: Vec<Message<P, S>>,
    /// What to hand to `advance` when all of this is done.
    pub receipt: Receipt,
}

/// Says which batch of work is done. A receipt that is not for the batch under way is ignored.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Receipt {
    /// Counts the batches of one life of a member.
    pub(super) number: u64,
    /// The last entry of `entries`; the default when there are none.
    pub(super) last: EntryId,
    /// The index of `snapshot`; 0 when there is none.
    pub(super) snapshot: Index,
    /// The last index of `committed` or of the snapshot; 0 when there are none.
    pub(super) applied: Index,
}

impl<P, S> Default for Ready<P, S> {
    fn default() -> Self {
        Ready {
            soft_state: None,
            read_states: Vec::new(),
            hard_state: None,
            must_sync: false,
            snapshot: None,
            entries: Vec::new(),
            committed: Vec::new(),
            messages_before_sync: Vec::new(),
            messages_after_sync: Vec::new(),
            receipt: Receipt::default(),
        }
    }
}

impl<P, S> Ready<P, S> {
    /// Empties the batch and keeps its buffers.
    pub fn clear(&mut self) {
        self.soft_state = None;
        self.read_states.clear();
        self.hard_state = None;
        self.must_sync = false;
        self.snapshot = None;
        self.entries.clear();
        self.committed.clear();
        self.messages_before_sync.clear();
        self.messages_after_sync.clear();
        self.receipt = Receipt::default();
    }
}
