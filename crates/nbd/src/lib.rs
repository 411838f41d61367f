//! The NBD protocol as a server speaks it, without any I/O.
