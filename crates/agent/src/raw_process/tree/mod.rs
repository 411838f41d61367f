//! Directories with all that is in them, to and from the host, as [records](provium_protocol::tree).
//!
//! Nothing here allocates for each file, since an operation process cannot give memory back. An error
//! names the path, below the tree's directory, at which it happened.

mod pack;
mod path;
mod unpack;

pub(super) use pack::pack;
pub(super) use unpack::unpack;
