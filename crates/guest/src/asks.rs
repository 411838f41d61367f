//! What a guest asks of its host, answered one at a time.
//!
//! The agent asks when the guest's kernel wants a module. Answers are large and go out in turn with
//! everything else; the next one is not made before the last is out, so that a guest that asks
//! without end holds the memory of one answer.

use crate::shared::Shared;
use provium_protocol::frame::MAX_MESSAGE;
use provium_protocol::{Answer, Ask, CallId, Lane, codec};
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use tokio::sync::mpsc;

/// Asks that may wait; an agent with more of them open is not one of ours.
pub(crate) const WAITING_LIMIT: usize = 256;

/// A future of an [`AnswerAsk`].
pub type Answering<'a> = Pin<Box<dyn Future<Output = Answer> + Send + 'a>>;

/// Answers what a guest asks.
pub trait AnswerAsk: Send + Sync {
    /// The answer. What `ask` holds comes from the guest: it is to be checked before it names
    /// anything on the host.
    fn answer(&self, ask: Ask) -> Answering<'_>;
}

/// Has no modules.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoModules;

impl AnswerAsk for NoModules {
    fn answer(&self, _: Ask) -> Answering<'_> {
        Box::pin(std::future::ready(nothing()))
    }
}

/// An ask that waits for its turn.
#[derive(Debug)]
pub(crate) struct Question {
    pub(crate) session: u64,
    pub(crate) lane: Lane,
    pub(crate) id: CallId,
    pub(crate) ask: Ask,
}

/// Answers questions until the channel ends.
pub(crate) async fn run(
    shared: Arc<Shared>,
    mut questions: mpsc::Receiver<Question>,
    answers: Arc<dyn AnswerAsk>,
) {
    while let Some(Question {
        session,
        lane,
        id,
        ask,
    }) = questions.recv().await
    {
        let mut bytes = codec::encode(&answers.answer(ask.clone()).await);
        if bytes.len() > MAX_MESSAGE {
            tracing::warn!(
                ?ask,
                len = bytes.len(),
                "an answer is too long for the wire"
            );
            bytes = codec::encode(&nothing());
        }
        if let Some(sent) = shared.send_answer(session, lane, id, bytes) {
            // Fails when the session ended first: nobody waits for the answer then.
            let _ = sent.await;
        }
    }
}

fn nothing() -> Answer {
    Answer::Modules(Vec::new())
}
