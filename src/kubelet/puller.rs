//! Image pulls, as many at a time as is allowed, and what images the node has.

use std::collections::{BTreeMap, VecDeque};

use crate::api::name::Name;
use crate::engine::time::SimTime;
use crate::runtime::interface::{Action, ImageRecord, Ticket};

use super::agent::NodeContext;

/// The images of the node as far as the kubelet knows, and the pulls that it wants.
#[derive(Debug, Default)]
pub struct Puller {
    images: BTreeMap<Name, Entry>,
    /// Pulls that wait for their turn, and when each was asked for.
    waiting: VecDeque<(Ticket, Name)>,
    under_way: Vec<(Ticket, SimTime)>,
    /// How many may go on at a time; zero for any number.
    limit: u32,
    /// Counts changes of the list of images.
    pub changes: u64,
}

/// An image of the node.
#[derive(Debug)]
pub struct Entry {
    /// The image.
    pub image: ImageRecord,
    /// Since when the kubelet has known of it.
    pub since: SimTime,
    /// When a container was last made of it.
    pub used: SimTime,
}

impl Puller {
    /// No images, and so many pulls at a time; zero for any number.
    pub fn new(limit: u32) -> Self {
        Puller { limit, ..Puller::default() }
    }

    /// The image of a name, if it is there.
    pub fn image(&self, name: &str) -> Option<&ImageRecord> {
        self.images.get(name).map(|entry| &entry.image)
    }

    /// All images, by name.
    pub fn images(&self) -> impl Iterator<Item = &ImageRecord> {
        self.images.values().map(|entry| &entry.image)
    }

    /// All images with what is known of their use.
    pub fn entries(&self) -> impl Iterator<Item = &Entry> {
        self.images.values()
    }

    /// How much all images take together.
    pub fn bytes(&self) -> u64 {
        self.images().fold(0, |sum, image| sum.saturating_add(image.size))
    }

    /// Takes in that an image is there.
    pub fn add(&mut self, image: ImageRecord, now: SimTime) {
        if self.image(&image.name) != Some(&image) {
            self.changes += 1;
            self.images.insert(image.name.clone(), Entry { image, since: now, used: now });
        }
    }

    /// Takes in that a container is made of an image.
    pub fn used(&mut self, name: &str, now: SimTime) {
        if let Some(entry) = self.images.get_mut(name) {
            entry.used = now;
        }
    }

    /// Takes in that an image is gone.
    pub fn remove(&mut self, name: &str) {
        if self.images.remove(name).is_some() {
            self.changes += 1;
        }
    }

    /// Asks for a pull as soon as its turn comes.
    pub fn pull(&mut self, ticket: Ticket, image: Name, ctx: &mut dyn NodeContext) {
        self.waiting.push_back((ticket, image));
        self.begin(ctx);
    }

    /// Takes in that a pull has ended; returns when its turn had come.
    pub fn ended(&mut self, ticket: Ticket, ctx: &mut dyn NodeContext) -> Option<SimTime> {
        let index = self.under_way.iter().position(|(other, _)| *other == ticket)?;
        let (_, began) = self.under_way.remove(index);
        self.begin(ctx);
        Some(began)
    }

    fn begin(&mut self, ctx: &mut dyn NodeContext) {
        while self.limit == 0 || self.under_way.len() < self.limit as usize {
            let Some((ticket, image)) = self.waiting.pop_front() else { return };
            self.under_way.push((ticket, ctx.now()));
            ctx.act(Action::PullImage { ticket, image });
        }
    }
}
