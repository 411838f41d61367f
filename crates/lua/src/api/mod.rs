//! The API of test authors: its objects and globals.

pub(crate) mod globals;
pub(crate) mod objects;
