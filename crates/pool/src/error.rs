//! Why no grant was given.

use provium_events::Resources;

/// Why no grant was given.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PoolError {
    /// More than the pool has in all.
    #[error(
        "needs {}, but the pool has {} in all; give {}, or run with a larger {}",
        requested(*.need, *.total),
        available(*.need, *.total),
        missing_words(*.need, *.total, ["less `memory`", "fewer `cpus`"]),
        missing_words(*.need, *.total, ["--mem", "--cpus"])
    )]
    NeverFits {
        /// The request.
        need: Resources,
        /// The pool's size.
        total: Resources,
    },
    /// More than the file's claim has left.
    #[error(
        "needs {}, but the file's claim has {} left; claim more {}",
        requested(*.need, *.left),
        available(*.need, *.left),
        missing_words(*.need, *.left, ["memory", "vCPUs"])
    )]
    OverClaim {
        /// The request.
        need: Resources,
        /// What the claim still has.
        left: Resources,
    },
    /// Less than the file's VMs have taken before.
    #[error(
        "claims {}, but the file's VMs hold {} already; claim more {}, or claim first",
        available(*.held, *.claim),
        requested(*.held, *.claim),
        missing_words(*.held, *.claim, ["memory", "vCPUs"])
    )]
    ClaimTooSmall {
        /// What they hold.
        held: Resources,
        /// The claim.
        claim: Resources,
    },
    /// The file has a claim, or another task waits for one.
    #[error("claim already taken")]
    AlreadyClaimed,
    /// All running files wait for each other, or the only one for itself.
    #[error("needs {need}, but {}", deadlock(.file, .holders))]
    Deadlock {
        /// Who has requested it.
        file: String,
        /// The request.
        need: Resources,
        /// The files that hold something, and how much.
        holders: Vec<(String, Resources)>,
    },
    /// The file was given up, or the run has ended.
    #[error("the run has ended")]
    Closed,
}

/// The cause of a deadlock, and what to do. vCPUs are overcommitted, so it is memory that is short.
fn deadlock(file: &str, holders: &[(String, Resources)]) -> String {
    if let [(holder, held)] = holders
        && holder == file
    {
        return format!(
            "this file waits for memory that only it holds, {held}, and no other part of it works meanwhile; hold \
             fewer VMs at a time, give them less `memory`, or run with a larger --mem"
        );
    }
    let holders = holders.iter();
    let texts: Vec<String> = holders
        .map(|(file, held)| format!("`{file}` holds {held}"))
        .collect();
    format!(
        "every running file waits for memory that another one holds: {}; let each file claim what it needs in all, or \
         run with a larger --mem",
        texts.join(", ")
    )
}

/// For each of memory and vCPUs, whether `need` is more than `available`.
fn missing(need: Resources, available: Resources) -> [bool; 2] {
    [
        need.memory_bytes > available.memory_bytes,
        need.cpus > available.cpus,
    ]
}

/// `amount`, without the part that is not missing.
fn part(amount: Resources, [memory, cpus]: [bool; 2]) -> String {
    let plural = if amount.cpus == 1 { "" } else { "s" };
    let mib = amount.memory_bytes.div_ceil(1 << 20);
    let parts = [
        (memory, format!("{mib} MiB")),
        (cpus, format!("{} vCPU{plural}", amount.cpus)),
    ];
    let parts = parts.into_iter().filter(|(is_missing, _)| *is_missing);
    let parts: Vec<String> = parts.map(|(_, text)| text).collect();
    parts.join(" and ")
}

/// What is missing, as it was requested.
fn requested(need: Resources, has: Resources) -> String {
    part(need, missing(need, has))
}

/// What is missing, as much of it as there is.
fn available(need: Resources, has: Resources) -> String {
    part(has, missing(need, has))
}

/// The words for what is missing: that for memory, that for vCPUs.
fn missing_words(need: Resources, has: Resources, words: [&'static str; 2]) -> String {
    let words = missing(need, has).into_iter().zip(words);
    let words = words.filter(|(is_missing, _)| *is_missing);
    let words: Vec<&str> = words.map(|(_, word)| word).collect();
    words.join(" or ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_names_only_what_is_missing() {
        let of = |mebibytes: u64, cpus| Resources {
            memory_bytes: mebibytes << 20,
            cpus,
        };
        let over = |need, left| PoolError::OverClaim { need, left }.to_string();
        assert_eq!(
            over(of(356, 1), of(1336, 0)),
            "needs 1 vCPU, but the file's claim has 0 vCPUs left; claim more vCPUs"
        );
        assert_eq!(
            over(of(900, 1), of(668, 1)),
            "needs 900 MiB, but the file's claim has 668 MiB left; claim more memory"
        );
        assert_eq!(
            over(of(900, 2), of(668, 1)),
            "needs 900 MiB and 2 vCPUs, but the file's claim has 668 MiB and 1 vCPU left; claim more \
             memory or vCPUs"
        );
        let (need, total) = (of(100, 4), of(4096, 2));
        assert_eq!(
            PoolError::NeverFits { need, total }.to_string(),
            "needs 4 vCPUs, but the pool has 2 vCPUs in all; give fewer `cpus`, or run with a larger \
             --cpus"
        );
        let (held, claim) = (of(356, 1), of(300, 2));
        assert_eq!(
            PoolError::ClaimTooSmall { held, claim }.to_string(),
            "claims 300 MiB, but the file's VMs hold 356 MiB already; claim more memory, or claim first"
        );
    }

    #[test]
    fn a_deadlock_names_the_holders() {
        let one = Resources {
            memory_bytes: 1 << 20,
            cpus: 1,
        };
        let holders = vec![("a".to_owned(), one), ("b".to_owned(), one + one)];
        let file = "b".to_owned();
        let error = PoolError::Deadlock {
            file: file.clone(),
            need: one,
            holders,
        };
        let named =
            ": `a` holds 1 MiB and 1 vCPU, `b` holds 2 MiB and 2 vCPUs; let each file claim";
        assert!(error.to_string().contains(named), "{error}");
        let error = PoolError::Deadlock {
            file,
            need: one,
            holders: vec![("b".to_owned(), one)],
        };
        let named = "this file waits for memory that only it holds, 1 MiB and 1 vCPU, and";
        assert!(error.to_string().contains(named), "{error}");
    }
}
