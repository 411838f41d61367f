//! The guest agent.
mod init;
mod modprobe;
mod transport;

fn main() {}
