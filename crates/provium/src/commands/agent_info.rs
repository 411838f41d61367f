//! `provium agent-info`: which agent is inside.

use super::Verdict;
use crate::terminal;
use provium_events::PROTOCOL_VERSION;
use provium_image::{AGENT, AGENT_BUILD};

pub(super) fn run() -> Verdict {
    terminal::out(&format!(
        "build {AGENT_BUILD}\nprotocol {PROTOCOL_VERSION}\nsize {}\n",
        AGENT.len()
    ));
    Verdict::Passed
}
