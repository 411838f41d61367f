//! The accelerators, and what a user may ask for.

use serde::{Deserialize, Serialize};

/// What runs the guest's instructions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Accel {
    /// The host's CPU, by the kernel's virtual machine monitor.
    Kvm,
    /// QEMU's translator; works everywhere.
    Tcg,
}

impl Accel {
    /// As QEMU and the user call it.
    pub fn as_str(self) -> &'static str {
        match self {
            Accel::Kvm => "kvm",
            Accel::Tcg => "tcg",
        }
    }
}

impl std::fmt::Display for Accel {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What the user asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum AccelChoice {
    /// KVM where it works, TCG elsewhere.
    #[default]
    Auto,
    /// KVM, or an error that says why not.
    Kvm,
    /// TCG.
    Tcg,
}
