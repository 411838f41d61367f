//! Changes to a stock busybox.
//!
//! A distribution's static busybox is built so that its shell prefers its own applets to programs on
//! PATH. Its `modprobe` looks for modules in the guest, where there are none: the agent's `modprobe`
//! gets them from the host. So the applet is given another name, and the shell finds the agent's.

/// The applet in the table of names, which is sorted and ends each name with a zero, between its
/// neighbours; and what it becomes, of the same length and in the same place of the order.
const MODPROBE: &[u8] = b"\0modprobe\0more\0";
const RENAMED: &[u8] = b"\0modprobf\0more\0";

/// An applet name that is not used.
pub(super) const HIDDEN_APPLET: &str = "modprobf";

/// Takes `modprobe` from busybox's own applets. A build without it stays as it is.
pub(super) fn leave_modprobe_to_path(program: &mut [u8]) {
    let at = program
        .windows(MODPROBE.len())
        .position(|window| window == MODPROBE);
    if let Some(place) = at.and_then(|at| program.get_mut(at..at + RENAMED.len())) {
        place.copy_from_slice(RENAMED);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_applet_is_renamed_and_nothing_else() {
        let mut program = b"..modinfo\0modprobe\0more\0..modprobe\0blacklist".to_vec();
        leave_modprobe_to_path(&mut program);
        assert_eq!(program, b"..modinfo\0modprobf\0more\0..modprobe\0blacklist");
        let mut other = b"no applets".to_vec();
        leave_modprobe_to_path(&mut other);
        assert_eq!(other, b"no applets");
    }
}
