//! A node's image store: which images and layers are there, and pulls that share the node's bandwidth.
//!
//! How many pulls go on at a time is the kubelet's business; here each takes an equal share of the bandwidth.

use std::collections::{BTreeMap, BTreeSet};

use crate::api::instance_id::digest;
use crate::api::name::Name;
use crate::engine::time::{SimDuration, SimTime};

use super::interface::{ImageRecord, Ticket};
use super::model::ImageModel;

/// The images of one node. They survive a crash of the machine; pulls do not.
#[derive(Debug)]
pub struct ImageStore {
    bytes_per_second: u64,
    images: BTreeMap<Name, ImageRecord>,
    layers: BTreeSet<Name>,
    pulls: Vec<Pull>,
    advanced_to: SimTime,
}

/// A pull under way.
#[derive(Debug)]
struct Pull {
    ticket: Ticket,
    image: ImageRecord,
    /// No byte flows before this time.
    begins: SimTime,
    /// Layers that this pull fetches.
    fetches: Vec<Name>,
    /// Layers that another pull fetches.
    awaits: Vec<Name>,
    bytes_left: u64,
}

impl ImageStore {
    /// An empty store behind a link of some bandwidth, at least one byte a second.
    pub fn new(bytes_per_second: u64) -> Self {
        ImageStore {
            bytes_per_second: bytes_per_second.max(1),
            images: BTreeMap::new(),
            layers: BTreeSet::new(),
            pulls: Vec::new(),
            advanced_to: SimTime::ZERO,
        }
    }

    /// The image of a name, if it is there.
    pub fn get(&self, name: &str) -> Option<&ImageRecord> {
        self.images.get(name)
    }

    /// All images, by name.
    pub fn all(&self) -> impl Iterator<Item = &ImageRecord> {
        self.images.values()
    }

    /// Puts an image and its layers into the store without a pull.
    pub fn add(&mut self, name: &Name, model: &ImageModel) -> ImageRecord {
        let record = record(name, model);
        self.layers.extend(layers(name, model).into_iter().map(|(layer, _)| layer));
        self.images.insert(name.clone(), record.clone());
        record
    }

    /// Takes an image out of the store; its layers stay until they are needed again.
    pub fn remove(&mut self, name: &str) -> bool {
        self.images.remove(name).is_some()
    }

    /// Begins a pull at which the first byte comes at `begins`.
    pub fn pull(&mut self, ticket: Ticket, name: &Name, model: &ImageModel, begins: SimTime, now: SimTime) {
        self.advance(now);
        let fetched: BTreeSet<&Name> = self.pulls.iter().flat_map(|pull| &pull.fetches).collect();
        let (mut fetches, mut awaits, mut bytes_left) = (Vec::new(), Vec::new(), 0u64);
        for (layer, size) in layers(name, model) {
            if self.layers.contains(&layer) || fetches.contains(&layer) {
                continue;
            }
            if fetched.contains(&layer) {
                awaits.push(layer);
            } else {
                bytes_left = bytes_left.saturating_add(size);
                fetches.push(layer);
            }
        }
        self.pulls.push(Pull { ticket, image: record(name, model), begins, fetches, awaits, bytes_left });
    }

    /// Forgets all pulls: the machine crashed, or the kubelet that wanted them is gone.
    pub fn abandon_pulls(&mut self) {
        self.pulls.clear();
    }

    /// When the store must be asked again by [`ImageStore::finished`]; none if nothing is under way.
    pub fn next_change(&self, now: SimTime) -> Option<SimTime> {
        let flowing = self.pulls.iter().filter(|pull| pull.begins <= now && pull.bytes_left > 0).count() as u64;
        let times = self.pulls.iter().filter_map(|pull| {
            if pull.begins > now {
                Some(pull.begins)
            } else if pull.bytes_left > 0 {
                Some(now + self.time_for(pull.bytes_left, flowing))
            } else {
                // What it still awaits is another pull's change.
                pull.awaits.iter().all(|layer| self.layers.contains(layer)).then_some(now)
            }
        });
        times.min()
    }

    /// The pulls that have ended by now, in the order in which they began.
    pub fn finished(&mut self, now: SimTime) -> Vec<(Ticket, ImageRecord)> {
        self.advance(now);
        let mut finished = Vec::new();
        loop {
            let layers = &self.layers;
            let done = self.pulls.iter().position(|pull| {
                pull.begins <= now && pull.bytes_left == 0 && pull.awaits.iter().all(|layer| layers.contains(layer))
            });
            let Some(index) = done else { return finished };
            let pull = self.pulls.remove(index);
            self.layers.extend(pull.fetches);
            self.images.insert(pull.image.name.clone(), pull.image.clone());
            finished.push((pull.ticket, pull.image));
        }
    }

    /// Lets the bytes flow that flowed since the last time.
    fn advance(&mut self, now: SimTime) {
        while self.advanced_to < now {
            let from = self.advanced_to;
            let flowing = self.pulls.iter().filter(|pull| pull.begins <= from && pull.bytes_left > 0).count() as u64;
            let change = self.next_change(from).filter(|change| *change > from);
            let to = change.map_or(now, |change| change.min(now));
            let elapsed = u128::from(to.since(from).as_nanos());
            if flowing > 0 {
                let bytes = elapsed * u128::from(self.bytes_per_second) / (1_000_000_000 * u128::from(flowing));
                for pull in self.pulls.iter_mut().filter(|pull| pull.begins <= from) {
                    pull.bytes_left = pull.bytes_left.saturating_sub(u64::try_from(bytes).unwrap_or(u64::MAX));
                }
            }
            self.advanced_to = to;
        }
    }

    /// How long so many bytes take if so many pulls share the link, rounded up.
    fn time_for(&self, bytes: u64, sharing: u64) -> SimDuration {
        let nanos = (u128::from(bytes) * u128::from(sharing.max(1)) * 1_000_000_000)
            .div_ceil(u128::from(self.bytes_per_second));
        SimDuration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
    }
}

/// The layers of an image with their sizes.
fn layers(name: &Name, model: &ImageModel) -> Vec<(Name, u64)> {
    if !model.layers.is_empty() {
        return model.layers.iter().map(|layer| (Name::new(&layer.name), layer.size.0)).collect();
    }
    let size = model.size.0;
    let parts = [("base", size / 100 * 70), ("middle", size / 100 * 25), ("top", size - size / 100 * 95)];
    parts.into_iter().map(|(part, size)| (Name::from(format!("{name}/{part}")), size)).collect()
}

/// The image as the store lists it; its digest follows from its name.
fn record(name: &Name, model: &ImageModel) -> ImageRecord {
    let layers = layers(name, model);
    let size = layers.iter().fold(0u64, |sum, (_, size)| sum.saturating_add(*size));
    let id = Name::from(format!("sha256:{}", digest(name)));
    ImageRecord { name: name.clone(), id, size, user: model.user.clone() }
}

/// What containerd 1.7 says of a failed pull: the registry's words with its own around them. Through the kubelet's client an error of
/// a known code comes with that (remote_image.go, `PullImage`): of the codes there is only one that a registry causes.
pub fn pull_error(image: &str, error: &str) -> String {
    let reference = full_reference(image);
    let code = if error.ends_with(": not found") { "rpc error: code = NotFound desc = " } else { "" };
    let resolving = format!("failed to resolve reference \"{reference}\": ");
    let resolving = if error.starts_with("failed to resolve reference ") { "" } else { &resolving };
    format!("{code}failed to pull and unpack image \"{reference}\": {resolving}{error}")
}

/// An image's name with all that may be left out of it: registry, repository of the registry's own images, tag
/// (distribution/reference, `ParseDockerRef`).
fn full_reference(image: &str) -> String {
    let is_host = |host: &str| host.contains(['.', ':']) || host == "localhost";
    let registry = match image.split_once('/') {
        Some((host, _)) if is_host(host) => "",
        Some(_) => "docker.io/",
        None => "docker.io/library/",
    };
    let name = image.rsplit_once('/').map_or(image, |(_, name)| name);
    let tag = if name.contains([':', '@']) { "" } else { ":latest" };
    format!("{registry}{image}{tag}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runtime::interface::PodNumber;
    use crate::runtime::model::Layer;
    use crate::runtime::size::Size;

    fn ticket(number: u32) -> Ticket {
        Ticket { pod: PodNumber(number), index: 0, number: 0 }
    }

    fn model(layers: &[(&str, u64)]) -> ImageModel {
        let layers = layers.iter().map(|(name, size)| Layer { name: (*name).to_owned(), size: Size(*size) });
        ImageModel { layers: layers.collect(), ..ImageModel::default() }
    }

    fn run(store: &mut ImageStore) -> Vec<(u64, u32)> {
        let (mut now, mut seen) = (SimTime::ZERO, Vec::new());
        while let Some(next) = store.next_change(now) {
            now = next;
            seen.extend(store.finished(now).into_iter().map(|(ticket, _)| (now.as_millis(), ticket.pod.0)));
        }
        seen
    }

    #[test]
    fn pulls_share_the_bandwidth_and_the_layers() {
        let mut store = ImageStore::new(1000);
        store.pull(ticket(1), &Name::of("a"), &model(&[("base", 1000), ("a", 500)]), SimTime::ZERO, SimTime::ZERO);
        store.pull(ticket(2), &Name::of("b"), &model(&[("base", 1000), ("b", 100)]), SimTime::ZERO, SimTime::ZERO);
        // b's own 100 bytes take 200 ms at half the rate, then it waits for the base layer that a fetches.
        assert_eq!(run(&mut store), [(1600, 1), (1600, 2)]);
        store.pull(ticket(3), &Name::of("c"), &model(&[("base", 1000)]), SimTime::ZERO, SimTime::ZERO);
        assert_eq!(store.next_change(SimTime::from_nanos(1_600_000_000)), Some(SimTime::from_nanos(1_600_000_000)));
        assert_eq!(store.get("b").map(|image| image.size), Some(1100));
    }

    #[test]
    fn nothing_flows_before_the_registry_answers() {
        let mut store = ImageStore::new(1000);
        let begins = SimTime::from_nanos(300_000_000);
        store.pull(ticket(1), &Name::of("a"), &model(&[("a", 500)]), begins, SimTime::ZERO);
        assert_eq!(run(&mut store), [(800, 1)]);
    }

    #[test]
    fn an_image_without_layers_has_three_of_its_own() {
        let mut store = ImageStore::new(1);
        let record = store.add(&Name::of("nginx:1"), &ImageModel::default());
        assert_eq!(record.size, 50 << 20);
        assert_eq!(record.id.len(), "sha256:".len() + 64);
    }

    #[test]
    fn a_pull_that_fails_names_the_whole_reference_and_the_code_of_what_is_not_there() {
        let refused = pull_error("localhost:5999/nosuch:1", "failed to do request: refused");
        assert_eq!(
            refused,
            "failed to pull and unpack image \"localhost:5999/nosuch:1\": failed to resolve reference \"localhost:5999/nosuch:1\": failed to do request: refused"
        );
        let missing = pull_error("shop", "docker.io/library/shop:latest: not found");
        assert_eq!(
            missing,
            "rpc error: code = NotFound desc = failed to pull and unpack image \"docker.io/library/shop:latest\": failed to resolve reference \"docker.io/library/shop:latest\": docker.io/library/shop:latest: not found"
        );
        let said = pull_error("team/shop:v3", "failed to resolve reference \"x\": denied");
        assert_eq!(
            said,
            "failed to pull and unpack image \"docker.io/team/shop:v3\": failed to resolve reference \"x\": denied"
        );
    }
}
