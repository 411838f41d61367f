//! The processor's time stamp counter (TSC).
#![expect(unsafe_code, reason = "the instruction has no safe form")]

/// Reads the time stamp counter of the processor that this thread runs on.
pub fn time_stamp_counter() -> u64 {
    // SAFETY: RDTSC reads a register and changes nothing. Linux allows it in every process that has not given it up
    // with PR_SET_TSC, and nothing here does.
    unsafe { core::arch::x86_64::_rdtsc() }
}
