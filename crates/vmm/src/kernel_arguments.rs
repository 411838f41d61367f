//! The kernel's arguments that make a boot fast, and its messages seen.
//!
//! Figures are CPU seconds from the start of QEMU to the first process: a Debian 6.1 cloud kernel as
//! ELF, 256 MiB, one vCPU, QEMU 7.2, TCG; medians of 7 runs, with the others of the list present; runs
//! differ by 0.05. All together, with the CPU model of [`arguments`](crate::arguments): 1.57 instead
//! of 2.31. What gained nothing is not here: `lpj=`, `rcupdate.rcu_expedited=1`, `lsm=`, `nokaslr`,
//! `nopti`, `audit=0`, `8250.nr_uarts=`, `i8042.no…`, `raid=noautodetect`, `nohpet`, `pci=noaer`.
//! `quiet`, which a guest may choose, gains 0.05 of CPU time and 0.2 of waiting.

use crate::accel::{Accel, Processor};
use crate::spec::AGENT_INIT;

/// An argument of the kernel, and why it is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KernelArgument {
    /// As the kernel takes it.
    pub text: &'static str,
    /// What it is for, with what it was measured to gain.
    pub why: &'static str,
}

/// Which arguments a guest gets before its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CmdlineDefaults {
    /// Also those that make a boot fast, some of which change how the kernel works.
    Fast,
    /// Only those without which a boot, or the reading of its console, could fail.
    None,
}

impl CmdlineDefaults {
    /// Its name in the configuration.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Fast => "fast",
            Self::None => "none",
        }
    }
}

/// The arguments that a guest gets before its own. A guest's own win.
pub fn default_kernel_arguments(accel: Accel, defaults: CmdlineDefaults) -> Vec<KernelArgument> {
    use CmdlineDefaults::{Fast, None};
    let all = [
        (
            Fast,
            "cryptomgr.notests",
            "ciphers are not tested at boot: 0.37 s",
        ),
        (
            None,
            "printk.time=1",
            "distinguishes the kernel's lines on the console from those of programs: 0 s",
        ),
        (
            Fast,
            "mitigations=off",
            "no mitigations for flaws of CPUs: under 0.05 s at boot, but a share of every system call",
        ),
    ];
    let for_tcg = [
        (
            Fast,
            "noreplace-smp",
            "lock prefixes are kept: removing each one discards translated code: 0.15 s",
        ),
        (
            Fast,
            "tsc=reliable",
            "no watchdog for a clock, which looks unstable on a crowded host: 0 s",
        ),
        (
            None,
            "no_timer_check",
            "no test of the timer, which a crowded host can fail, and which kernels skip under KVM: under \
             0.07 s",
        ),
    ];
    let for_tcg = for_tcg.iter().filter(|_| accel == Accel::Tcg);
    all.iter()
        .chain(for_tcg)
        .filter(|(of, ..)| defaults == Fast || *of == None)
        .map(|&(_, text, why)| KernelArgument { text, why })
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

/// The frequency of the time stamp counter, which under TCG is the host's: the kernel (5.8 and later) does not have to
/// measure it, which goes wrong on a busy host.
fn counter_frequency(accel: Accel, processor: &Processor) -> Option<String> {
    let khz = processor.tsc_khz.filter(|_| accel == Accel::Tcg)?;
    Some(format!("tsc_early_khz={khz}"))
}

/// The whole line: the [defaults](default_kernel_arguments), the frequency of the host's time stamp counter, the
/// guest's `own`, which win because the kernel takes the last of a kind, and what the harness relies on: the first
/// UART as console and, with `inject_agent`, the agent as first process. What follows a `--` in `own` stays
/// there: it is for the init.
pub fn kernel_arguments(
    accel: Accel,
    processor: &Processor,
    defaults: CmdlineDefaults,
    own: &str,
    inject_agent: bool,
) -> String {
    let (own, for_init) = match own.split_once("-- ") {
        Some((own, for_init)) if own.is_empty() || own.ends_with(' ') => (own, Some(for_init)),
        _ => (own, None),
    };
    let defaults = default_kernel_arguments(accel, defaults)
        .into_iter()
        .map(|argument| argument.text);
    let mut words: Vec<String> = defaults.map(str::to_owned).collect();
    words.extend(counter_frequency(accel, processor));
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

    fn processor(tsc_khz: Option<u32>) -> Processor {
        Processor {
            model: String::new(),
            tsc_khz,
        }
    }

    fn kernel_arguments(accel: Accel, own: &str, inject_agent: bool) -> String {
        let processor = processor(None);
        super::kernel_arguments(accel, &processor, CmdlineDefaults::Fast, own, inject_agent)
    }

    #[test]
    fn without_defaults_the_kernel_works_as_it_was_built_to() {
        let processor = processor(Some(2_596_000));
        let line =
            |accel| super::kernel_arguments(accel, &processor, CmdlineDefaults::None, "own", true);
        assert_eq!(
            line(Accel::Tcg),
            "printk.time=1 no_timer_check tsc_early_khz=2596000 own console=ttyS0 rdinit=/.provium/agent"
        );
        assert_eq!(
            line(Accel::Kvm),
            "printk.time=1 own console=ttyS0 rdinit=/.provium/agent"
        );
    }

    #[test]
    fn the_users_arguments_take_precedence() {
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
    fn kvm_has_no_clock_arguments() {
        assert!(!kernel_arguments(Accel::Kvm, "", false).contains("tsc="));
    }
}
