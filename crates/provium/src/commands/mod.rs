//! The commands of `provium`.

mod agent;
mod agent_info;
mod choose;
mod completions;
mod doctor;
mod exit;
mod fixture;
mod list;
mod list_fixtures;
mod prepare;
mod run;
mod runtime;
mod setup;
mod template;

pub(crate) use choose::run;
pub(crate) use exit::Exit;
