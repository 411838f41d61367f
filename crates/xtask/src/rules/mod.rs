//! The rules, each a function from the tree to what breaks it.

mod arrows;
mod code;
mod files;
mod links;
mod lua_files;

pub(crate) use arrows::arrows;
pub(crate) use code::code;
pub(crate) use files::files;
pub(crate) use links::links;
pub(crate) use lua_files::lua_files;
