//! Captured frames: as a file that tcpdump and Wireshark read, and as short summaries.

mod pcap;
mod services;
mod summary;

pub use pcap::{PcapWriter, SNAPSHOT_LENGTH};
pub use summary::{Summary, summarize};
