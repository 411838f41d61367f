//! What `provium` can be told to do.

mod agent;
mod agent_info;
mod choose;
mod completions;
mod doctor;
mod fixture;
mod list;
mod list_fixtures;
mod prepare;
mod run;
mod runtime;
mod setup;
mod template;
mod verdict;

pub(crate) use choose::run;
pub(crate) use verdict::Verdict;
