//! `provium kept list|clean`: the VMs of failed tests that `--on-failure keep` has saved.

use crate::exit::Exit;
use crate::failure::Failure;
use crate::hiargs::Context;
use crate::lowargs::KeptCommand;
use crate::suggestion::did_you_mean;
use crate::terminal::{RemovalSummary, ago, mebibytes, since_1970};
use crate::{keep, terminal};
use provium_events::counted;
use provium_events::printable::one_line;
use provium_lab::{KeptFailure, KeptFailures, KeptState, KeptVm};
use serde::Serialize;

/// Digits of a key that are shown.
const SHOWN: usize = 12;

#[derive(Serialize)]
struct KeptRow<'a> {
    id: &'a str,
    file: &'a str,
    test: &'a str,
    reason: &'a str,
    vms: Vec<VmRow<'a>>,
    size_bytes: u64,
    /// Seconds since 1970.
    kept: u64,
}

#[derive(Serialize)]
struct VmRow<'a> {
    name: &'a str,
    profile: &'a str,
    /// Why only its console is kept.
    console_only: Option<&'a str>,
}

pub(super) fn run(command: KeptCommand) -> Result<Exit, Failure> {
    let (KeptCommand::List { plain, .. } | KeptCommand::Clean { plain, .. }) = &command;
    let context = Context::new(plain)?;
    let failures = failures(&context)?;
    match command {
        KeptCommand::List { json, .. } => {
            failures.prune()?;
            let list = failures.list()?;
            terminal::out(&if json {
                list.iter().map(json_line).collect()
            } else {
                table(&list)
            });
        }
        KeptCommand::Clean { ids, .. } => {
            let list = failures.list()?;
            let chosen = if ids.is_empty() {
                list
            } else {
                let chosen = ids.iter().map(|id| find(&list, id).cloned());
                chosen.collect::<Result<_, _>>()?
            };
            let mut removed = RemovalSummary::default();
            for failure in &chosen {
                removed.note(failures.remove(&failure.key)?, failure.size);
            }
            terminal::out(&removed.summary("failed test"));
        }
    }
    Ok(Exit::Passed)
}

/// The kept failures in the cache of this configuration.
pub(super) fn failures(context: &Context) -> Result<KeptFailures, Failure> {
    Ok(KeptFailures::new(keep::bucket(&context.config.cache_dir)?))
}

/// The failure whose id begins with these digits.
pub(super) fn find<'a>(list: &'a [KeptFailure], id: &str) -> Result<&'a KeptFailure, Failure> {
    let mut found = list
        .iter()
        .filter(|failure| !id.is_empty() && failure.key.as_str().starts_with(id));
    match (found.next(), found.next()) {
        (Some(failure), None) => Ok(failure),
        (Some(_), Some(_)) => Err(Failure::Usage {
            what: format!("the ids of several kept failures begin with `{id}`; type more of it"),
        }),
        (None, _) => Err(Failure::Usage {
            what: format!(
                "no kept failure has an id that begins with `{id}`; `provium kept list` shows all"
            ),
        }),
    }
}

/// The VM of that name; without a name, the only one that can be entered, or the only one.
pub(super) fn find_vm<'a>(
    failure: &'a KeptFailure,
    name: Option<&str>,
) -> Result<&'a KeptVm, Failure> {
    let names = || failure.vms.iter().map(|vm| vm.name.as_str());
    if let Some(name) = name {
        let found = failure.vms.iter().find(|vm| vm.name == name);
        return found.ok_or_else(|| Failure::Usage {
            what: format!(
                "the failed test had no vm `{name}`{}",
                did_you_mean(name, names())
            ),
        });
    }
    let is_saved = |vm: &&KeptVm| vm.state == KeptState::Saved;
    let saved: Vec<&KeptVm> = failure.vms.iter().filter(is_saved).collect();
    match (saved.as_slice(), failure.vms.as_slice()) {
        ([only], _) => Ok(only),
        ([], [only]) => Ok(only),
        _ => {
            let names: Vec<&str> = names().collect();
            Err(Failure::Usage {
                what: format!(
                    "the failed test had several VMs; name one of them after the id: {}",
                    names.join(", ")
                ),
            })
        }
    }
}

fn table(list: &[KeptFailure]) -> String {
    if list.is_empty() {
        return "no failed test is kept; `provium --on-failure keep` keeps the first one of a run\n"
            .to_owned();
    }
    let mut out = format!(
        "{:<SHOWN$}  {:<12}  {:>10}  TEST\n",
        "ID", "KEPT", "ON DISK"
    );
    for failure in list {
        let vms: Vec<String> = failure.vms.iter().map(described).collect();
        out.push_str(&format!(
            "{:<SHOWN$}  {:<12}  {:>10}  {}::{}\n{:<SHOWN$}  VMs: {}\n",
            &failure.key.as_str()[..SHOWN],
            ago(failure.kept),
            mebibytes(failure.size),
            one_line(&failure.file),
            one_line(&failure.test),
            "",
            vms.join(", ")
        ));
    }
    let total = list.iter().map(|failure| failure.size).sum();
    out.push_str(&format!(
        "{}, {} on disk; enter a VM with `provium console --resume ID [VM]`\n",
        counted(list.len() as u64, "failed test"),
        mebibytes(total)
    ));
    out
}

fn described(vm: &KeptVm) -> String {
    let name = one_line(&vm.name);
    match vm.state {
        KeptState::Saved => name,
        KeptState::Console { .. } => format!("{name} (only its console)"),
    }
}

fn json_line(failure: &KeptFailure) -> String {
    let vms = failure.vms.iter().map(|vm| VmRow {
        name: &vm.name,
        profile: &vm.profile,
        console_only: match &vm.state {
            KeptState::Saved => None,
            KeptState::Console { why } => Some(why),
        },
    });
    let line = KeptRow {
        id: failure.key.as_str(),
        file: &failure.file,
        test: &failure.test,
        reason: &failure.reason,
        vms: vms.collect(),
        size_bytes: failure.size,
        kept: since_1970(failure.kept),
    };
    // Strings and numbers always serialise.
    let mut text = serde_json::to_string(&line).unwrap_or_default();
    text.push('\n');
    text
}
