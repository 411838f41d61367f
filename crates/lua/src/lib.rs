//! The Lua API: one file per object.
