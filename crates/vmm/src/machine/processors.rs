//! What a machine's vCPUs do, from the registers that QEMU's human monitor prints.

use std::fmt;

use super::handle::Machine;
use crate::error::VmmError;

/// A vCPU at one instant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProcessorState {
    /// The linear address of its next instruction.
    pub address: u64,
    /// It waits for an interrupt, or for its start by the kernel.
    pub is_halted: bool,
}

impl fmt::Display for ProcessorState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = match self.is_halted {
            true => "halted",
            false => "running",
        };
        write!(f, "{state} at {:#x}", self.address)
    }
}

impl Machine {
    /// The state of each of its vCPUs, by number. They keep running, so the states are not of exactly one instant.
    ///
    /// # Errors
    /// As [`Machine::pause`]; [`VmmError::Monitor`] with what QEMU printed if that is not understood.
    pub async fn processors(&self) -> Result<Vec<ProcessorState>, VmmError> {
        let printed = self.control.human("info registers -a".to_owned()).await?;
        states(&printed).ok_or_else(|| self.control.unexpected(&printed))
    }
}

/// The states in the output of `info registers -a`.
fn states(printed: &str) -> Option<Vec<ProcessorState>> {
    let mut processors = printed.split("CPU#");
    processors.next();
    let states: Option<Vec<_>> = processors.map(state).collect();
    states.filter(|states| !states.is_empty())
}

fn state(registers: &str) -> Option<ProcessorState> {
    Some(ProcessorState {
        address: instruction_address(registers)?,
        is_halted: registers.contains("HLT=1"),
    })
}

/// The linear address of the next instruction, from `EIP=0000fff0 EFL=…` or `RIP=…`, and the segment's
/// base in `CS =f000 ffff0000 0000ffff 00009b00`.
pub(super) fn instruction_address(registers: &str) -> Option<u64> {
    let (_, instruction) = registers.split_once("IP=")?;
    let (_, segment) = registers.split_once("CS =")?;
    let number = |text: Option<&str>| u64::from_str_radix(text?, 16).ok();
    let instruction = number(instruction.split_whitespace().next())?;
    let base = number(segment.split_whitespace().nth(1))?;
    base.checked_add(instruction)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn registers(instruction: &str, halted: u8, segment: &str) -> String {
        format!(
            "EAX=00000000 EBX=00000000\n{instruction} EFL=00000002 [-------] CPL=0 II=0 A20=1 SMM=0 \
             HLT={halted}\nES =0000 00000000 0000ffff 00009300\nCS ={segment}\nSS =0000\n"
        )
    }

    #[test]
    fn the_address_is_the_linear_one() {
        let reset = registers("EIP=0000fff0", 0, "f000 ffff0000 0000ffff 00009b00");
        assert_eq!(instruction_address(&reset), Some(0xffff_fff0));
        let later = registers("EIP=00007391", 0, "f000 000f0000 0000ffff 00009b00");
        assert_eq!(instruction_address(&later), Some(0xf_7391));
        let kernel = registers(
            "RIP=ffffffff9ec6f355",
            0,
            "0010 0000000000000000 ffffffff 00af9b00 DPL=0 CS64 [-RA]",
        );
        assert_eq!(instruction_address(&kernel), Some(0xffff_ffff_9ec6_f355));
        assert_eq!(instruction_address("unknown command"), None);
    }

    #[test]
    fn each_processor_has_a_state() {
        let printed = format!(
            "\nCPU#0\n{}\nCPU#1\n{}",
            registers("RIP=ffffffff9ec6f355", 0, "0010 0 ffffffff 00af9b00"),
            registers("EIP=0000fff0", 1, "f000 ffff0000 0000ffff 00009b00"),
        );
        let states: Vec<_> = states(&printed)
            .unwrap()
            .iter()
            .map(|state| state.to_string())
            .collect();
        assert_eq!(
            states,
            ["running at 0xffffffff9ec6f355", "halted at 0xfffffff0"]
        );
    }

    #[test]
    fn other_output_is_refused() {
        assert_eq!(states("unknown command: 'info registers -a'"), None);
        assert_eq!(states("\nCPU#0\nEAX=0"), None);
    }
}
