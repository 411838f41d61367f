//! Faults: rules that decide how a guest's commands are carried out.
//!
//! A [`FaultRule`] says which commands it is for and what it does to them. The [`FaultTable`] asks all rules in the
//! order in which they were added: delays add up, and the first rule that does more than delay decides the effect. It
//! does no I/O and knows no time; the disk carries out what it decides.

mod corrupt;
mod describe;
mod rule;
mod table;

pub(crate) use corrupt::corrupt;
pub use rule::{FaultMode, FaultRule, SectorRange};
pub use table::FaultId;
pub(crate) use table::{FaultTable, SavedFault};
