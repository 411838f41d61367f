//! The kernel's arguments that make a boot fast, and its messages seen.
//!
//! Figures are CPU seconds from the start of QEMU to the first process of a Debian 6.1 cloud kernel
//! under TCG, medians: see `docs/architecture.md` for the setting.

use crate::accel::Accel;
use crate::spec::AGENT_INIT;

/// An argument of the kernel, and why it is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KernelArgument {
    /// As the kernel takes it.
    pub text: &'static str,
    /// What it is for, with what it was measured to gain.
    pub why: &'static str,
}

/// The arguments that every guest gets before its own. A guest's own win.
pub fn default_kernel_arguments(accel: Accel) -> Vec<KernelArgument> {
    let all = [
        ("cryptomgr.notests", "no self-tests of ciphers: 0.45 s"),
        (
            "mitigations=off",
            "no detours around the flaws of some CPUs: nothing at boot, much in system calls",
        ),
    ];
    let for_tcg = [
        (
            "noreplace-smp",
            "lock prefixes are not patched away: each patch throws away translated code: 0.2 s",
        ),
        (
            "tsc=reliable",
            "the clock is not watched, and not given up on a crowded host",
        ),
        (
            "no_timer_check",
            "the timer is not tested, a test that a crowded host fails",
        ),
    ];
    let for_tcg = for_tcg.iter().filter(|_| accel == Accel::Tcg);
    all.iter()
        .chain(for_tcg)
        .map(|&(text, why)| KernelArgument { text, why })
        .collect()
}

/// What the harness relies on, behind the guest's own arguments.
fn relied_on(inject_agent: bool) -> Vec<String> {
    // The last console is the one that `/dev/console` means: what an init prints is kept.
    let mut words = vec!["console=ttyS0".to_owned()];
    if inject_agent {
        words.push(format!("rdinit={AGENT_INIT}"));
    }
    words
}

/// The whole line: the [defaults](default_kernel_arguments), the guest's `own`, which win because
/// the kernel takes the last of a kind, and what the harness relies on: the first UART as console
/// and, with `inject_agent`, the agent as first process. What stands behind a `--` in `own` stays
/// there: it is for the init.
pub fn kernel_arguments(accel: Accel, own: &str, inject_agent: bool) -> String {
    let (own, for_init) = match own.split_once("-- ") {
        Some((own, for_init)) if own.is_empty() || own.ends_with(' ') => (own, Some(for_init)),
        _ => (own, None),
    };
    let defaults = default_kernel_arguments(accel)
        .into_iter()
        .map(|argument| argument.text);
    let mut words: Vec<String> = defaults.map(str::to_owned).collect();
    words.extend(own.split_whitespace().map(str::to_owned));
    words.extend(relied_on(inject_agent));
    if let Some(for_init) = for_init {
        words.push(format!("-- {}", for_init.trim()));
    }
    words.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn own_arguments_stand_where_they_win() {
        let line = kernel_arguments(Accel::Tcg, "console=hvc0  quiet tsc=unstable", true);
        let own = line.find("tsc=unstable").unwrap();
        assert!(line.find("tsc=reliable").unwrap() < own);
        assert!(
            line.ends_with("console=hvc0 quiet tsc=unstable console=ttyS0 rdinit=/.provium/agent")
        );
    }

    #[test]
    fn arguments_for_the_init_stay_behind_the_dashes() {
        let line = kernel_arguments(Accel::Kvm, "quiet -- single a--b", false);
        assert!(
            line.ends_with("quiet console=ttyS0 -- single a--b"),
            "{line}"
        );
        let line = kernel_arguments(Accel::Kvm, "a=b-- c", false);
        assert!(line.ends_with("a=b-- c console=ttyS0"), "{line}");
    }

    #[test]
    fn hardware_needs_no_help_with_its_clock() {
        assert!(!kernel_arguments(Accel::Kvm, "", false).contains("tsc="));
    }
}
