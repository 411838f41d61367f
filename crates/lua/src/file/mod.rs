//! A file's Lua state, and what is asked of a file.

pub(crate) mod chunk;
pub(crate) mod job;
pub(crate) mod lua_state;
