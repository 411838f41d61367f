//! `provium agent-info`: which agent is inside.

use crate::exit::Exit;
use crate::terminal;
use provium_events::PROTOCOL_VERSION;
use provium_image::{AGENT, AGENT_BUILD};

pub(super) fn run() -> Exit {
    terminal::out(&format!(
        "build {AGENT_BUILD}\nprotocol {PROTOCOL_VERSION}\nsize {}\n",
        AGENT.len()
    ));
    Exit::Passed
}
