//! Classes of userdata: how a Rust type becomes an object of the API.
//!
//! A type implements [`Object`] and registers its methods once for each Lua state, with [`Class`]:
//!
//! ```ignore
//! Class::<ClockObject>::new(lua)?
//!     .method("get", |_lua, clock, _args| Ok(clock.0.get()))?
//!     .async_method("sleep", |_lua, clock, args| async move {
//!         Ok(clock.0.sleep(args.duration(0, "the duration")?).await?)
//!     })?
//!     .finish()
//! ```
//!
//! # Methods
//!
//! | registered with | the body | while it waits |
//! |---|---|---|
//! | [`Class::method`] | runs to its end at once | |
//! | [`Class::async_method`] | returns a future, which gets the object and the arguments by value | the file's other tasks run; ending the task drops the future |
//! | [`Class::lua_method`] | is a function of the prelude, for what calls back into the author's code | |
//!
//! [`function`], [`raw_function`] and [`async_function`] do the same for functions that belong to no
//! class. `args` has the arguments without the object, from 0; each `args` method checks one of them and
//! names the parameter in its error. A table that the body never reads is an error, since it was meant as
//! options.
//!
//! Every method is a plain function that takes its object first, so it can be passed to `pcall`.
//!
//! # Errors
//!
//! A native function must not raise: Lua would report the error at the line of the prelude. It returns the
//! marker [`RAISE`] and a text instead, and the prelude's wrapper (`prelude/calls.lua`) raises that at the
//! author's line. Bodies return `Err(LuaError)`, and this module makes the marker of it.
//!
//! # Objects of a lab clone
//!
//! In a parallel test every object that comes from Lua is replaced by its counterpart in the test's clone
//! of the lab ([`Object::resolve_in`]). [`object_in`] is the only place where that happens, so all code that
//! takes an object from a Lua value has to use it.
//!
//! # Listing
//!
//! While the tests of a file are only listed, methods that wait do nothing and return a placeholder
//! ([`dry_run`](crate::engine::dry_run)).

use crate::binding::args::{Args, ArgumentUse};
use crate::binding::options::hint;
use crate::binding::preview;
use crate::binding::raise::LuaError;
use crate::engine::frames::frames;
use crate::engine::pending_call::Call;
use crate::engine::prelude::{RAISE, SKIP_TEXT};
use crate::engine::task::Task;
use crate::engine::test_file::TestFileState;
use mlua::{
    AnyUserData, Function, IntoLua, IntoLuaMulti, LightUserData, Lua, MultiValue, Result, Table,
    Value,
};
use provium_lab::{LabClone, LabError};
use std::future::Future;
use std::rc::Rc;

/// Functions that wait and do their work also while tests are only listed.
const NEED_NO_GUEST: &[&str] = &["io.open"];

/// A type whose values are objects of the API.
pub(crate) trait Object: Clone + 'static {
    /// The name of the class, as in documentation and messages: `vm`.
    const CLASS: &'static str;
    /// Whether its methods need no guest and so do their work also while tests are only listed.
    const NEEDS_NO_GUEST: bool = false;
    /// The object in messages: ``vm `web` ``.
    fn subject(&self) -> String;
    /// The result of `tostring`.
    fn describe(&self) -> String {
        self.subject()
    }
    /// Its counterpart in a test's clone of the file's lab.
    fn resolve_in(&self, _copy: &LabClone) -> Self {
        self.clone()
    }
}

/// The object of class `T` in a Lua value, or, in a parallel test, its counterpart in the test's clone of the
/// file's lab.
pub(crate) fn object_in<T: Object>(value: &AnyUserData) -> Option<T> {
    let object = value.borrow::<T>().ok()?;
    let group = Task::current().map(|task| Rc::clone(&task.group));
    let clone = group.and_then(|group| group.lab_clone.borrow().clone());
    Some(match clone {
        Some(clone) => object.resolve_in(&clone),
        None => object.clone(),
    })
}

/// Whether a Lua value is an object of the class of that name.
pub(crate) fn is_of_class(value: &Value, class: &str) -> bool {
    let Value::UserData(userdata) = value else {
        return false;
    };
    let meta = userdata.metatable();
    let name = meta.and_then(|meta| meta.get::<mlua::LuaString>("__name"));
    name.is_ok_and(|name| name == class)
}

/// Builds a class.
pub(crate) struct Class<'a, T> {
    lua: &'a Lua,
    state: Rc<TestFileState>,
    methods: Table,
    object: std::marker::PhantomData<T>,
}

impl<'a, T: Object> Class<'a, T> {
    /// A class without methods.
    pub(crate) fn new(lua: &'a Lua) -> Result<Self> {
        Ok(Self {
            lua,
            state: TestFileState::of(lua),
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
        body: impl Fn(&Lua, &T, &Args) -> std::result::Result<R, LuaError> + 'static,
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

    /// A method that waits. The file's other tasks run meanwhile; ending the task drops the future.
    pub(crate) fn async_method<R, F>(
        self,
        name: &'static str,
        body: impl Fn(Lua, T, Args) -> F + 'static,
    ) -> Result<Self>
    where
        R: IntoLuaMulti + 'static,
        F: Future<Output = std::result::Result<R, LuaError>> + 'static,
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

    /// A method that is written in Lua, in the prelude.
    pub(crate) fn lua_method(self, name: &'static str, function: &Function) -> Result<Self> {
        self.methods.raw_set(name, function)?;
        Ok(self)
    }

    /// Replaces the method `name` by `wrapper(method)`, where `wrapper` is a function of the prelude.
    pub(crate) fn wrapped_by(self, name: &'static str, wrapper: &Function) -> Result<Self> {
        let method: Function = self.methods.raw_get(name)?;
        let wrapped: Function = wrapper.call(method)?;
        self.methods.raw_set(name, wrapped)?;
        Ok(self)
    }

    /// Adds methods with a function, such as one of another file.
    pub(crate) fn with(self, add: impl FnOnce(Self) -> Result<Self>) -> Result<Self> {
        add(self)
    }

    fn native(self, name: &'static str, raw: &Function) -> Result<Self> {
        let wrapped: Function = self.state.prelude.wrap.call(raw)?;
        self.methods.raw_set(name, wrapped)?;
        Ok(self)
    }

    /// Registers the class. Looking up an unknown method raises and names the nearest one.
    pub(crate) fn finish(self) -> Result<()> {
        let missing = missing_method(self.lua, &self.methods, T::CLASS)?;
        let meta = self.lua.create_table()?;
        meta.raw_set("__index", missing)?;
        self.methods.set_metatable(Some(meta))?;
        let index = Value::Table(self.methods.clone());
        self.register(index, None)
    }

    /// Registers the class. `find(object, key)` looks up what is not a method, and `assign` carries out
    /// `object.key = value`.
    pub(crate) fn finish_with<R: IntoLuaMulti>(
        self,
        find: impl Fn(&Lua, &T, &str) -> std::result::Result<R, LuaError> + 'static,
        assign: impl Fn(&Lua, &T, &str, &Value) -> std::result::Result<(), LuaError> + 'static,
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
                    _ => Err(LuaError::argument("settings have names")),
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

/// A function of the API that does not wait and belongs to no class.
pub(crate) fn function<R: IntoLuaMulti>(
    lua: &Lua,
    name: &'static str,
    body: impl Fn(&Lua, &Args) -> std::result::Result<R, LuaError> + 'static,
) -> Result<Function> {
    let raw = raw_function(lua, name, body)?;
    TestFileState::of(lua).prelude.wrap.call(raw)
}

/// Like [`function`], for functions that the prelude calls and whose errors it raises itself.
pub(crate) fn raw_function<R: IntoLuaMulti>(
    lua: &Lua,
    name: &'static str,
    body: impl Fn(&Lua, &Args) -> std::result::Result<R, LuaError> + 'static,
) -> Result<Function> {
    lua.create_function(move |lua, values: MultiValue| {
        let args = Args::new(values.into_vec());
        let result = used_up(body(lua, &args), &args.used());
        deliver(lua, result, String::new, name)
    })
}

/// A function of the API that waits and belongs to no class. With `raw` its errors are not raised by the
/// usual wrapper: a function of the prelude calls it and does that.
pub(crate) fn async_function<R, F>(
    lua: &Lua,
    name: &'static str,
    raw: bool,
    body: impl Fn(Lua, Args) -> F + 'static,
) -> Result<Function>
where
    R: IntoLuaMulti + 'static,
    F: Future<Output = std::result::Result<R, LuaError>> + 'static,
{
    let function = lua.create_async_function(move |lua: Lua, values: MultiValue| {
        let listing = TestFileState::of(&lua).listing.clone();
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
        let wrap = &TestFileState::of(lua).prelude.wrap_waiting;
        wrap.call((function, name))
    }
}

/// Begins a waiting method's call, in the current task's care.
fn begin<T, R, F>(
    lua: &Lua,
    name: &'static str,
    values: MultiValue,
    body: &impl Fn(Lua, T, Args) -> F,
) -> Result<Call>
where
    T: Object,
    R: IntoLuaMulti + 'static,
    F: Future<Output = std::result::Result<R, LuaError>> + 'static,
{
    let state = TestFileState::of(lua);
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
) -> Result<Call> {
    let task = Task::current().ok_or_else(|| {
        mlua::Error::runtime("calls that wait can be made in tests and files only")
    })?;
    Ok(task.begin_call(label, frames(lua), future))
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
            let got = preview::shown(&this);
            format!(
                "{class}:{name}: needs a {class} before its arguments, got {got} (call it with `:`)"
            )
        })
}

/// Options that a call does not know must not pass in silence: a table that it never looked at was a
/// mistake.
fn used_up<R>(
    result: std::result::Result<R, LuaError>,
    used: &ArgumentUse,
) -> std::result::Result<R, LuaError> {
    let result = result?;
    used.check()?;
    Ok(result)
}

/// A result as a native function returns it.
fn deliver<R: IntoLuaMulti>(
    lua: &Lua,
    result: std::result::Result<R, LuaError>,
    subject: impl FnOnce() -> String,
    name: &str,
) -> Result<MultiValue> {
    match result {
        Ok(values) => values.into_lua_multi(lua),
        Err(LuaError::Assertion(text)) => refuse(lua, &text, Some("assertion")),
        Err(LuaError::Skip) => refuse(lua, SKIP_TEXT, Some("skip")),
        Err(raise) => {
            let text = raise.text(&subject(), name);
            if let (LuaError::Lab(LabError::Dead { .. }), Some(task)) = (&raise, Task::current()) {
                task.note_dead_vm(&text);
            }
            refuse(lua, &text, None)
        }
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
    TestFileState::of(lua).prelude.wrap.call(raw)
}

fn read_only(lua: &Lua, state: &TestFileState, class: &'static str) -> Result<Function> {
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
