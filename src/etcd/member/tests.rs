//! Whole clusters of members in a small world, as stories.

mod faults;
mod harness;
mod stories;
