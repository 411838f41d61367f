//! Classes of userdata: methods with checked arguments, refusals raised at the author's line, and a
//! clear error for a method that is not there.
//!
//! Every method is a plain function that takes its object first, so it can be handed to `pcall`.

use crate::binding::args::{Args, Used};
use crate::binding::options::hint;
use crate::binding::preview;
use crate::binding::raise::Raise;
use crate::binding::stack;
use crate::engine::task::Task;
use crate::engine::test_file::FileState;
use mlua::{
    AnyUserData, Function, IntoLua, IntoLuaMulti, LightUserData, Lua, MultiValue, Result, Table,
    Value,
};
use provium_lab::LabClone;
use std::future::Future;
use std::rc::Rc;

/// Its address marks what a native function returns instead of raising.
pub(crate) static RAISE: &[u8; 8] = b"provium!";
/// Waiting functions that are called also while tests are only listed.
const NEED_NO_GUEST: &[&str] = &["io.open"];
/// What a skipped test raises, as text.
pub(crate) const SKIP_TEXT: &str = "test skipped";

/// A Rust type that Lua holds.
pub(crate) trait Object: Clone + 'static {
    /// Its class, as authors call it: `vm`.
    const CLASS: &'static str;
    /// Its calls need no guest, so they are made also while tests are only listed.
    const NEEDS_NO_GUEST: bool = false;
    /// The object in messages: ``vm `web` ``.
    fn subject(&self) -> String;
    /// What `tostring` says.
    fn describe(&self) -> String {
        self.subject()
    }
    /// What a test means by it that works on a copy of the file's lab.
    fn in_copy(&self, _copy: &LabClone) -> Self {
        self.clone()
    }
}

/// The object of class `T` in a Lua value, as the code that runs now means it: whatever Lua hands to
/// Rust goes through here, so that a test which works on a copy never reaches the file's own.
pub(crate) fn object_in<T: Object>(value: &AnyUserData) -> Option<T> {
    let object = value.borrow::<T>().ok()?;
    let run = Task::current().and_then(|task| task.run.clone());
    let own_lab = run.as_ref().map(|run| run.own_lab.borrow());
    Some(match own_lab.as_deref() {
        Some(Some(own_lab)) => object.in_copy(&own_lab.copy),
        _ => object.clone(),
    })
}

/// Builds a class.
pub(crate) struct Class<'a, T> {
    lua: &'a Lua,
    state: Rc<FileState>,
    methods: Table,
    object: std::marker::PhantomData<T>,
}

impl<'a, T: Object> Class<'a, T> {
    /// A class without methods.
    pub(crate) fn new(lua: &'a Lua) -> Result<Self> {
        Ok(Self {
            lua,
            state: FileState::of(lua),
            methods: lua.create_table()?,
            object: std::marker::PhantomData,
        })
    }

    /// The Lua state it is built in.
    pub(crate) fn lua(&self) -> &'a Lua {
        self.lua
    }

    /// A method that does not wait.
    pub(crate) fn method<R: IntoLuaMulti>(
        self,
        name: &'static str,
        body: impl Fn(&Lua, &T, &Args) -> std::result::Result<R, Raise> + 'static,
    ) -> Result<Self> {
        let raw = self.lua.create_function(move |lua, values: MultiValue| {
            let (this, args) = match split::<T>(name, values) {
                Ok(parts) => parts,
                Err(text) => return refuse(lua, &text, None),
            };
            let result = used_up(body(lua, &this, &args), &args.used());
            deliver(lua, result, || this.subject(), name)
        })?;
        self.native(name, &raw)
    }

    /// A method that waits: the file's other tasks go on meanwhile, and ending the task drops the
    /// future.
    pub(crate) fn waits<R, F>(
        self,
        name: &'static str,
        body: impl Fn(Lua, T, Args) -> F + 'static,
    ) -> Result<Self>
    where
        R: IntoLuaMulti + 'static,
        F: Future<Output = std::result::Result<R, Raise>> + 'static,
    {
        let raw = self
            .lua
            .create_async_function(move |lua: Lua, values: MultiValue| {
                let future = begin(&lua, name, values, &body);
                async move { future?.await }
            })?;
        let call = format!("{}:{name}", T::CLASS);
        let wrapped: Function = self.state.prelude.wrap_waiting.call((raw, call))?;
        self.methods.raw_set(name, wrapped)?;
        Ok(self)
    }

    /// A method that the prelude wraps once more, as it does for what calls back into Lua.
    pub(crate) fn lua_method(self, name: &'static str, function: &Function) -> Result<Self> {
        self.methods.raw_set(name, function)?;
        Ok(self)
    }

    /// Has the method `name`, which is there already, called by way of `wrapper(method)`, a function
    /// of the prelude's.
    pub(crate) fn through(self, name: &'static str, wrapper: &Function) -> Result<Self> {
        let method: Function = self.methods.raw_get(name)?;
        let wrapped: Function = wrapper.call(method)?;
        self.methods.raw_set(name, wrapped)?;
        Ok(self)
    }

    /// Adds the methods that `add` knows.
    pub(crate) fn with(self, add: impl FnOnce(Self) -> Result<Self>) -> Result<Self> {
        add(self)
    }

    fn native(self, name: &'static str, raw: &Function) -> Result<Self> {
        let wrapped: Function = self.state.prelude.wrap.call(raw)?;
        self.methods.raw_set(name, wrapped)?;
        Ok(self)
    }

    /// The class is whole: looking up anything else raises and names the nearest method.
    pub(crate) fn finish(self) -> Result<()> {
        let missing = missing_method(self.lua, &self.methods, T::CLASS)?;
        let meta = self.lua.create_table()?;
        meta.raw_set("__index", missing)?;
        self.methods.set_metatable(Some(meta))?;
        let index = Value::Table(self.methods.clone());
        self.register(index, None)
    }

    /// The class is whole: what is not a method is looked up by `find(object, key)`, and `assign`
    /// carries out `object.key = value`.
    pub(crate) fn finish_with<R: IntoLuaMulti>(
        self,
        find: impl Fn(&Lua, &T, &str) -> std::result::Result<R, Raise> + 'static,
        assign: impl Fn(&Lua, &T, &str, &Value) -> std::result::Result<(), Raise> + 'static,
    ) -> Result<()> {
        let wrap = &self.state.prelude.wrap;
        let methods = self.methods.clone();
        let index = self
            .lua
            .create_function(move |lua, (this, key): (AnyUserData, Value)| {
                let method: Value = methods.raw_get(&key)?;
                let Value::String(key) = &key else {
                    return Value::Nil.into_lua_multi(lua);
                };
                if !method.is_nil() {
                    return method.into_lua_multi(lua);
                }
                let this = receiver::<T>(&this)?;
                deliver(
                    lua,
                    find(lua, &this, &key.to_string_lossy()),
                    || this.subject(),
                    "look-up",
                )
            })?;
        let index: Function = wrap.call(index)?;
        let newindex = self.lua.create_function(
            move |lua, (this, key, value): (AnyUserData, Value, Value)| {
                let this = receiver::<T>(&this)?;
                let result = match &key {
                    Value::String(key) => assign(lua, &this, &key.to_string_lossy(), &value),
                    _ => Err(Raise::argument("settings have names")),
                };
                deliver(lua, result, || this.subject(), "assignment")
            },
        )?;
        let newindex: Function = wrap.call(newindex)?;
        self.register(Value::Function(index), Some(newindex))
    }

    fn register(self, index: Value, newindex: Option<Function>) -> Result<()> {
        let tostring = self.lua.create_function(|_, this: AnyUserData| {
            let this = object_in::<T>(&this);
            Ok(this.map_or_else(|| T::CLASS.to_owned(), |this| this.describe()))
        })?;
        let newindex = match newindex {
            Some(function) => function,
            None => read_only(self.lua, &self.state, T::CLASS)?,
        };
        self.lua.register_userdata_type::<T>(move |registry| {
            use mlua::UserDataFields as _;
            registry.add_meta_field("__index", index);
            registry.add_meta_field("__newindex", newindex);
            registry.add_meta_field("__tostring", tostring);
            registry.add_meta_field("__name", T::CLASS);
        })
    }
}

/// A function of the API that does not wait and stands by itself.
pub(crate) fn function<R: IntoLuaMulti>(
    lua: &Lua,
    name: &'static str,
    body: impl Fn(&Lua, &Args) -> std::result::Result<R, Raise> + 'static,
) -> Result<Function> {
    let raw = raw_function(lua, name, body)?;
    FileState::of(lua).prelude.wrap.call(raw)
}

/// The same for the prelude, which looks at refusals itself.
pub(crate) fn raw_function<R: IntoLuaMulti>(
    lua: &Lua,
    name: &'static str,
    body: impl Fn(&Lua, &Args) -> std::result::Result<R, Raise> + 'static,
) -> Result<Function> {
    lua.create_function(move |lua, values: MultiValue| {
        let args = Args::new(values.into_vec());
        let result = used_up(body(lua, &args), &args.used());
        deliver(lua, result, String::new, name)
    })
}

/// A function of the API that waits and stands by itself. With `raw`, the prelude looks at refusals.
pub(crate) fn waiting_function<R, F>(
    lua: &Lua,
    name: &'static str,
    raw: bool,
    body: impl Fn(Lua, Args) -> F + 'static,
) -> Result<Function>
where
    R: IntoLuaMulti + 'static,
    F: Future<Output = std::result::Result<R, Raise>> + 'static,
{
    let function = lua.create_async_function(move |lua: Lua, values: MultiValue| {
        let listing = FileState::of(&lua).listing.clone();
        let listing = listing.filter(|_| !NEED_NO_GUEST.contains(&name));
        let call = if let Some(listing) = listing {
            in_task(
                &lua,
                String::new(),
                std::future::ready(listing.stand_in(&lua, name, values)),
            )
        } else {
            let args = Args::new(values.into_vec());
            let label = preview::call("", "", name, args.shown());
            let used = args.used();
            let started = body(lua.clone(), args);
            in_task(&lua.clone(), label, async move {
                let result = used_up(started.await, &used);
                deliver(&lua, result, String::new, name)
            })
        };
        async move { call?.await }
    })?;
    if raw {
        Ok(function)
    } else {
        let wrap = &FileState::of(lua).prelude.wrap_waiting;
        wrap.call((function, name))
    }
}

/// Begins a waiting method's call, in the current task's care.
fn begin<T, R, F>(
    lua: &Lua,
    name: &'static str,
    values: MultiValue,
    body: &impl Fn(Lua, T, Args) -> F,
) -> Result<crate::engine::task::Call>
where
    T: Object,
    R: IntoLuaMulti + 'static,
    F: Future<Output = std::result::Result<R, Raise>> + 'static,
{
    let state = FileState::of(lua);
    if let (Some(listing), false) = (&state.listing, T::NEEDS_NO_GUEST) {
        return in_task(
            lua,
            String::new(),
            std::future::ready(listing.stand_in(lua, name, values)),
        );
    }
    let (this, args) = match split::<T>(name, values) {
        Ok(parts) => parts,
        Err(text) => {
            return in_task(
                lua,
                String::new(),
                std::future::ready(refuse(lua, &text, None)),
            );
        }
    };
    let label = preview::call(T::CLASS, ":", name, args.shown());
    let used = args.used();
    let started = body(lua.clone(), this.clone(), args);
    let lua = lua.clone();
    in_task(&lua.clone(), label, async move {
        let result = used_up(started.await, &used);
        deliver(&lua, result, || this.subject(), name)
    })
}

fn in_task(
    lua: &Lua,
    label: String,
    future: impl Future<Output = Result<MultiValue>> + 'static,
) -> Result<crate::engine::task::Call> {
    let task = Task::current().ok_or_else(|| {
        mlua::Error::runtime("calls that wait can be made in tests and files only")
    })?;
    Ok(task.begin_call(label, stack::frames(lua), future))
}

/// The object of a metamethod.
fn receiver<T: Object>(value: &AnyUserData) -> Result<T> {
    object_in(value).ok_or_else(|| mlua::Error::runtime(format!("needs a {}", T::CLASS)))
}

/// The object and the arguments of a method's call; the error is what to tell the author.
fn split<T: Object>(name: &str, mut values: MultiValue) -> std::result::Result<(T, Args), String> {
    let this = values.pop_front().unwrap_or(Value::Nil);
    let object = match &this {
        Value::UserData(userdata) => object_in::<T>(userdata),
        _ => None,
    };
    let class = T::CLASS;
    object
        .map(|object| (object, Args::new(values.into_vec())))
        .ok_or_else(|| {
            let got = match &this {
                Value::UserData(_) => this.to_string().unwrap_or_else(|_| "an object".to_owned()),
                other => preview::shown(other),
            };
            format!(
                "{class}:{name}: needs a {class} before its arguments, got {got} (call it with `:`)"
            )
        })
}

/// Options that a call does not know must not pass in silence: a table that it never looked at was a
/// mistake.
fn used_up<R>(result: std::result::Result<R, Raise>, used: &Used) -> std::result::Result<R, Raise> {
    let result = result?;
    used.check()?;
    Ok(result)
}

/// A result as a native function returns it.
fn deliver<R: IntoLuaMulti>(
    lua: &Lua,
    result: std::result::Result<R, Raise>,
    subject: impl FnOnce() -> String,
    name: &str,
) -> Result<MultiValue> {
    match result {
        Ok(values) => values.into_lua_multi(lua),
        Err(Raise::Assertion(text)) => refuse(lua, &text, Some("assertion")),
        Err(Raise::Skip) => refuse(lua, SKIP_TEXT, Some("skip")),
        Err(raise) => refuse(lua, &raise.text(&subject(), name), None),
    }
}

/// What the prelude raises as `text`.
fn refuse(lua: &Lua, text: &str, kind: Option<&str>) -> Result<MultiValue> {
    let marker = LightUserData(RAISE.as_ptr().cast_mut().cast());
    (marker, lua.create_string(text)?, kind).into_lua_multi(lua)
}

fn missing_method(lua: &Lua, methods: &Table, class: &'static str) -> Result<Function> {
    let known = methods.clone();
    let raw = lua.create_function(move |lua, (_, key): (Value, Value)| {
        let Value::String(key) = &key else {
            return Value::Nil.into_lua_multi(lua);
        };
        let mut names = Vec::new();
        for pair in known.pairs::<String, Value>() {
            names.push(pair?.0);
        }
        let key = key.to_string_lossy();
        let hint = hint(&key, names.iter().map(String::as_str));
        refuse(lua, &format!("{class} has no method `{key}`{hint}"), None)
    })?;
    FileState::of(lua).prelude.wrap.call(raw)
}

fn read_only(lua: &Lua, state: &FileState, class: &'static str) -> Result<Function> {
    let raw = lua.create_function(move |lua, (_, key): (Value, Value)| {
        let key = preview::shown(&key);
        refuse(
            lua,
            &format!("a {class} cannot be changed by assigning to its key {key}"),
            None,
        )
    })?;
    state.prelude.wrap.call(raw)
}

/// A userdata of a class.
pub(crate) fn object<T: Object>(lua: &Lua, object: T) -> Result<Value> {
    lua.create_any_userdata(object)?.into_lua(lua)
}
