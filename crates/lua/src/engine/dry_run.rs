//! DryRun: a file's top level is run to learn its tests, but nothing boots.
//!
//! Calls that would wait do nothing. Those that return their object (`boot`) do so; the others
//! return a stand-in that lets itself be called and indexed. If the file's code then stumbles over
//! a stand-in, the list ends there and says so.

use mlua::{AnyUserData, IntoLuaMulti, Lua, MultiValue, Result, UserDataFields, Value};
use std::cell::Cell;

/// Calls that return the object they are made on.
const RETURN_SELF: &[&str] = &["boot", "assert_ok"];

/// What listing has come to.
#[derive(Debug, Default)]
pub(crate) struct DryRun {
    used: Cell<bool>,
}

/// Stands for what only a guest could have said.
#[derive(Debug, Clone, Copy)]
struct Placeholder;

impl DryRun {
    /// What a call returns instead of doing its work.
    pub(crate) fn stand_in(
        &self,
        lua: &Lua,
        name: &str,
        mut values: MultiValue,
    ) -> Result<MultiValue> {
        if RETURN_SELF.contains(&name) {
            return values.pop_front().unwrap_or(Value::Nil).into_lua_multi(lua);
        }
        self.used.set(true);
        lua.create_any_userdata(Placeholder)?.into_lua_multi(lua)
    }

    /// Whether the file was given a stand-in.
    pub(crate) fn was_used(&self) -> bool {
        self.used.get()
    }
}

/// Makes every operation on a stand-in succeed.
pub(crate) fn register(lua: &Lua) -> Result<()> {
    let same = lua.create_function(|_, (this, _): (AnyUserData, MultiValue)| Ok(this))?;
    let text = lua.create_function(|_, _: MultiValue| Ok("a value of the guest"))?;
    lua.register_userdata_type::<Placeholder>(move |registry| {
        for operator in [
            "__index", "__call", "__add", "__sub", "__mul", "__div", "__mod", "__idiv", "__unm",
            "__band", "__bor", "__bxor", "__bnot", "__shl", "__shr", "__pow",
        ] {
            registry.add_meta_field(operator, same.clone());
        }
        registry.add_meta_field("__concat", text.clone());
        registry.add_meta_field("__tostring", text);
    })
}
