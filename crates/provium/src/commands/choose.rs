//! From the word that was typed to the command that does it.

use super::{
    agent, agent_info, completions, console, disk, doctor, fixture, kept, list, prepare,
    run as run_tests, setup, template,
};
use crate::exit::Exit;
use crate::failure::Failure;
use crate::lowargs::{Command, LowArgs};

/// Does what the user typed.
pub(crate) fn run(low: LowArgs) -> Result<Exit, Failure> {
    match low.command {
        None => run_tests::run(low.run),
        Some(Command::List(args)) => list::run(args),
        Some(Command::Setup(args)) => setup::run(&args),
        Some(Command::Doctor(args)) => doctor::run(&args),
        Some(Command::Prepare(args)) => prepare::run(&args),
        Some(Command::Fixture(args)) => fixture::run(args.command),
        Some(Command::Template(args)) => template::run(args.command),
        Some(Command::Disk(args)) => disk::run(args.command),
        Some(Command::Console {
            args,
            machine,
            plain,
        }) => console::run(args, &machine, &plain),
        Some(Command::Kept(args)) => kept::run(args.command),
        Some(Command::Agent(args)) => agent::run(&args),
        Some(Command::Completions(args)) => Ok(completions::run(&args)),
        Some(Command::AgentInfo) => Ok(agent_info::run()),
    }
}
