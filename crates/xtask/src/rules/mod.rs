//! The rules, each a function from the tree, or from git's history, to what breaks it.

mod arrows;
mod circles;
mod code;
mod commit_titles;
mod files;
mod glossary;
mod links;
mod lua_files;
mod methods;
mod quoted_messages;
mod type_names;
mod width;
mod word_list;
mod words;

pub(crate) use arrows::arrows;
pub(crate) use circles::circles;
pub(crate) use code::code;
pub(crate) use commit_titles::{SINCE, commit_titles};
pub(crate) use files::files;
pub(crate) use glossary::glossary;
pub(crate) use links::links;
pub(crate) use lua_files::lua_files;
pub(crate) use methods::methods;
pub(crate) use quoted_messages::quoted_messages;
pub(crate) use type_names::type_names;
pub(crate) use width::width;
pub(crate) use words::words;
