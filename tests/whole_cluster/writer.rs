//! A client that writes all the time.

use kubesim::api::kind::Kind;
use kubesim::api::plain::ConfigMap;
use kubesim::apiserver::protocol::{Answer, ListRevision, Operation, Scope};
use kubesim::cluster::news::OperatorRequest;
use kubesim::engine::time::{SimDuration, SimTime};

use crate::support::{Bed, config_map, seconds};

/// ConfigMaps that are created at a steady pace, and what became of each.
pub struct Writer {
    pub requests: Vec<(String, Option<OperatorRequest>)>,
    pub acknowledged: Vec<String>,
    pub refused: usize,
    next: SimTime,
}

impl Writer {
    pub fn new(bed: &Bed) -> Self {
        Writer { requests: Vec::new(), acknowledged: Vec::new(), refused: 0, next: bed.now() }
    }

    /// Lets time go by and creates five ConfigMaps a second.
    pub fn go_on(&mut self, bed: &mut Bed, length: u64, watch: impl Fn(&Bed)) {
        let end = bed.now() + seconds(length);
        while self.next < end {
            while bed.now() < self.next {
                bed.step(self.next);
                watch(bed);
            }
            let name = format!("note-{}", self.requests.len());
            let object = config_map(&name);
            let request = bed.send(Operation::Create { object, dry_run: false });
            self.requests.push((name, Some(request)));
            self.next = bed.now() + SimDuration::from_millis(200);
        }
        bed.run_to(end);
        self.collect(bed);
    }

    pub fn collect(&mut self, bed: &mut Bed) {
        for (name, request) in &mut self.requests {
            match request.and_then(|request| bed.answered(request)) {
                Some(Ok(_)) => self.acknowledged.push(name.clone()),
                Some(Err(_)) => self.refused += 1,
                None => continue,
            }
            *request = None;
        }
    }

    /// Fails unless everything that was acknowledged is there, as a new client sees it.
    pub fn check(&mut self, bed: &mut Bed) {
        self.collect(bed);
        let scope = Scope { namespace: Some("default".into()), ..Scope::all(Kind::ConfigMap) };
        let list = Operation::List { scope, limit: 0, continue_token: None, at: ListRevision::Latest };
        let Ok(Answer::List { items, .. }) = bed.request(list) else { panic!("the ConfigMaps can be listed") };
        let names: Vec<&str> = items.iter().map(|object| object.meta().name.as_str()).collect();
        let lost: Vec<&String> = self.acknowledged.iter().filter(|name| !names.contains(&name.as_str())).collect();
        assert!(lost.is_empty(), "acknowledged and lost: {lost:?}");
        assert_eq!(bed.all::<ConfigMap>().iter().filter(|map| map.meta.namespace == "default").count(), names.len());
    }
}
