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
use crate::sys::exclusive::Exclusive;
use crate::transport::Kind;
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
    Silent(Option<Exclusive>),
    /// The host has sent something again. Once that was a request, other tasks may run, too.
    Woken {
        exclusive: Option<Exclusive>,
        is_asked: bool,
    },
}

impl Quiet {
    /// Whether everybody may speak.
    pub(super) fn is_talking(&self) -> bool {
        matches!(self, Self::Talking | Self::Woken { .. })
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
            Quiet::Talking | Quiet::Woken { .. } => true,
            Quiet::WindingUp(_) => !self.speaking.is_empty(),
            Quiet::Silent(_) => false,
        }
    }

    /// Whether to poll without waiting, since a task that waits lets others run.
    pub(super) fn spins(&mut self) -> bool {
        match &mut self.quiet {
            Quiet::Silent(Some(exclusive))
            | Quiet::Woken {
                exclusive: Some(exclusive),
                ..
            } => exclusive.spins(),
            _ => false,
        }
    }

    /// Falls silent once there is nothing left to be said.
    ///
    /// A guest that is silent may be copied. Until a copy has its identity, its processes draw the same
    /// random numbers as those of the next copy. So from the reply on, which the host answers by stopping
    /// the machine, until the first request, nothing but the router runs.
    pub(super) fn settle_quiet(&mut self) {
        let Quiet::WindingUp(call) = self.quiet else {
            return;
        };
        if self.speaking.is_empty() && !self.duties.asks.is_waiting() {
            // A serial line is read by the kernel's workers, which are ordinary tasks, and a socket is not
            // that of a guest.
            let exclusive = match self.transport.kind {
                Kind::Port => Exclusive::begin().ok(),
                Kind::Line | Kind::Socket => None,
            };
            self.reply(Lane::AGENT, call, &Ok(Reply::Done));
            self.quiet = Quiet::Silent(exclusive);
            // What comes from now on waits behind it.
            self.out.seal();
        }
    }

    /// Lets other tasks run once the first request after the silence has been carried out.
    pub(super) fn end_exclusive(&mut self) {
        let spins = self.spins();
        if let Quiet::Woken { is_asked, .. } = self.quiet
            && (is_asked || !spins)
        {
            self.quiet = Quiet::Talking;
        }
    }

    /// The host speaks again; `is_asked`: by more than a word about a call that is open already.
    pub(super) fn end_quiet(&mut self, is_asked: bool) {
        match &mut self.quiet {
            Quiet::Silent(exclusive) => {
                self.quiet = Quiet::Woken {
                    exclusive: exclusive.take(),
                    is_asked,
                };
                self.out.unseal();
            }
            Quiet::Woken {
                is_asked: asked, ..
            } => *asked |= is_asked,
            Quiet::Talking | Quiet::WindingUp(_) => {}
        }
    }

    /// A new session begins.
    pub(super) fn forget_quiet(&mut self) {
        self.end_quiet(true);
        if !matches!(self.quiet, Quiet::Woken { .. }) {
            self.quiet = Quiet::Talking;
        }
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
