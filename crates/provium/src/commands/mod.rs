//! The commands of `provium`.

mod active_run;
mod agent;
mod agent_info;
mod choose;
mod completions;
mod console;
mod disk;
mod doctor;
mod entries;
mod fixture;
mod kept;
mod list;
mod list_fixtures;
mod listing;
mod prepare;
mod remove;
mod rounds;
mod run;
mod runtime;
mod setup;
mod template;

pub(crate) use choose::run;
