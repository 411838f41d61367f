//! Coming to a cut: the moment at which a copy of the guest can be taken.
//!
//! ```text
//! talking ── Quiesce ──▶ winding up ── all is said, Done ──▶ silent ── any frame ──▶ talking
//! ```
//!
//! While winding up, the executor is read from until what it has begun to say is said, and the programs
//! that ask for modules get their answers. When silent, the router writes nothing, whatever happens; what
//! it would have said waits. It does not know whether it is copied: it goes on as if nothing were.

use super::serve::Router;
use crate::failure;
use provium_protocol::{CallId, Lane, Reply};
use std::collections::BTreeSet;

/// How far it has come.
#[derive(Debug, Default)]
pub(super) enum Quiet {
    #[default]
    Talking,
    /// For this call.
    WindingUp(CallId),
    /// The reply is on its way; nothing follows it.
    Silent,
}

impl Quiet {
    /// Whether everybody may speak.
    pub(super) fn is_talking(&self) -> bool {
        matches!(self, Self::Talking)
    }
}

/// Calls that are in the middle of a message to the host.
pub(super) type Speaking = BTreeSet<(Lane, CallId)>;

impl Router {
    pub(super) fn begin_quiet(&mut self, call: CallId) {
        self.quiet = Quiet::WindingUp(call);
    }

    /// Whether the executor may be read from.
    pub(super) fn may_speak(&self) -> bool {
        match self.quiet {
            Quiet::Talking => true,
            Quiet::WindingUp(_) => !self.speaking.is_empty(),
            Quiet::Silent => false,
        }
    }

    /// Falls silent once there is nothing left to be said.
    pub(super) fn settle_quiet(&mut self) {
        let Quiet::WindingUp(call) = self.quiet else {
            return;
        };
        if self.speaking.is_empty() && !self.duties.asks.is_waiting() {
            self.reply(Lane::AGENT, call, &Ok(Reply::Done));
            self.quiet = Quiet::Silent;
            // What comes from now on waits behind it.
            self.out.seal();
        }
    }

    /// The host speaks again.
    pub(super) fn end_quiet(&mut self) {
        if matches!(self.quiet, Quiet::Silent) {
            self.quiet = Quiet::Talking;
            self.out.unseal();
        }
    }

    /// A new session begins.
    pub(super) fn forget_quiet(&mut self) {
        self.end_quiet();
        self.quiet = Quiet::Talking;
        self.speaking.clear();
    }

    /// Whether it was the call that quiet was asked for with.
    pub(super) fn cancel_quiet(&mut self, call: CallId) -> bool {
        let ours = matches!(self.quiet, Quiet::WindingUp(asked) if asked == call);
        if ours {
            self.quiet = Quiet::Talking;
            self.reply(Lane::AGENT, call, &Err(failure::cancelled()));
        }
        ours
    }
}
