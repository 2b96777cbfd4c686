//! Who types the scenario's commands: a client of the API like any other, on a machine of its own.

use std::rc::Rc;

use crate::api::name::Name;
use crate::apiserver::protocol::{ApiMessage, Operation, User};
use crate::client::delivery::{Caller, Delivery, Failure};
use crate::client::transport::{Client, Clientset, ClientsetConfig};
use crate::engine::process::{Context, Input, ProcessId};
use crate::engine::time::SimDuration;

use super::news::{News, OperatorRequest};

/// How long kubectl waits for an answer before a command has failed.
const TIMEOUT: SimDuration = SimDuration::from_secs(60);

/// The operator's client.
pub struct Operator {
    client: Client<OperatorRequest>,
    clientset: Clientset,
    next: u64,
}

impl Operator {
    /// An operator who prefers the first of these API servers.
    pub fn new(servers: Vec<ProcessId>) -> Self {
        let mut client = Client::new(servers);
        let groups = vec![Name::of("system:masters"), Name::of("system:authenticated")];
        let user = Rc::new(User { name: Name::of("kubernetes-admin"), groups });
        let clientset = client.add_clientset(ClientsetConfig {
            user,
            agent: Name::of("kubectl"),
            limit: None,
            timeout: Some(TIMEOUT),
            lane: 0,
        });
        Operator { client, clientset, next: 0 }
    }

    /// Makes a request; its answer comes as [`News::Answer`].
    pub fn request(&mut self, operation: Operation, ctx: &mut dyn Context<ApiMessage>) -> OperatorRequest {
        self.next += 1;
        let request = OperatorRequest(self.next);
        self.client.request(self.clientset, Caller::Process(request), operation, ctx);
        request
    }

    /// Handles what happens to the operator's process, and tells of answers.
    pub fn handle(
        &mut self,
        input: Input<ApiMessage>,
        ctx: &mut dyn Context<ApiMessage>,
        news: &mut impl Extend<News>,
    ) {
        self.client.handle(input, ctx);
        while let Some(delivery) = self.client.next_delivery() {
            if let Delivery::Answered { caller: Caller::Process(request), result, .. } = delivery {
                news.extend([News::Answer { request, result: result.map_err(Failure::into_status) }]);
            }
        }
    }
}
