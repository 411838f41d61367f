//! What each part of the crate keeps for the file that runs in a Lua state.

use mlua::Lua;
use std::rc::Rc;

/// The `T` of the file that runs in `lua`; made on first use.
pub(crate) fn file_data<T: Default + 'static>(lua: &Lua) -> Rc<T> {
    let found = lua.app_data_ref::<Rc<T>>().map(|data| Rc::clone(&data));
    found.unwrap_or_else(|| {
        let data = Rc::<T>::default();
        lua.set_app_data(Rc::clone(&data));
        data
    })
}
