//! Requests of the guest, handled one at a time.
//!
//! The agent requests kernel modules that the guest's kernel wants to load. Replies are large and are sent
//! in turn with all other messages. The next request is handled when the reply to the last one is
//! sent, so a guest that makes any number of requests takes the memory of one reply.

use crate::shared::Shared;
use provium_protocol::frame::MAX_MESSAGE;
use provium_protocol::message::ModuleFile;
use provium_protocol::{CallId, GuestRequest, HostReply, Lane, codec};
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use tokio::sync::mpsc;

/// Requests that may wait. Our agent never has more of them open.
pub(crate) const WAITING_LIMIT: usize = 256;

/// The modules, once they have been read.
pub type ModulesFuture<'a> = Pin<Box<dyn Future<Output = Vec<ModuleFile>> + Send + 'a>>;

/// Provides the kernel modules that a guest requests.
pub trait ModuleProvider: Send + Sync {
    /// The module of this name or alias with the modules it depends on, in the order to load them;
    /// none if the name is unknown. The name comes from the guest: check it before it names anything on
    /// the host.
    fn modules(&self, name: String) -> ModulesFuture<'_>;
}

/// Has no modules.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoModules;

impl ModuleProvider for NoModules {
    fn modules(&self, _: String) -> ModulesFuture<'_> {
        Box::pin(std::future::ready(Vec::new()))
    }
}

/// A guest request that waits for its turn.
#[derive(Debug)]
pub(crate) struct PendingRequest {
    pub(crate) session: u64,
    pub(crate) lane: Lane,
    pub(crate) id: CallId,
    pub(crate) request: GuestRequest,
}

/// Handles requests until the channel ends.
pub(crate) async fn run(
    shared: Arc<Shared>,
    mut requests: mpsc::Receiver<PendingRequest>,
    provider: Arc<dyn ModuleProvider>,
) {
    while let Some(pending) = requests.recv().await {
        let GuestRequest::Module { name } = pending.request;
        let modules = provider.modules(name.clone()).await;
        let mut message = codec::encode(&HostReply::Modules(modules));
        if message.len() > MAX_MESSAGE {
            let len = message.len();
            tracing::warn!(name, len, "the modules do not fit into a message");
            message = codec::encode(&HostReply::Modules(Vec::new()));
        }
        let PendingRequest {
            session, lane, id, ..
        } = pending;
        if let Some(sent) =
            shared.with(|channel| channel.reply_to_guest(session, lane, id, message))
        {
            // Fails if the session ends first: the reply is not awaited any more.
            let _ = sent.await;
        }
    }
}
