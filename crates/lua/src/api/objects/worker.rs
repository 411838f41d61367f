//! Workers: `vm:spawn_worker()`.

use super::command::{environment, user};
use super::handles::{WorkerObject, vm_value};
use super::surface;
use crate::binding::args::Args;
use crate::binding::class::Class;
use crate::binding::raise::LuaError;
use crate::binding::values::text_of;
use mlua::{Lua, Result, Value};
use provium_lab::WorkerSpec;
use serde_bytes::ByteBuf;

const SIGTERM: i32 = 15;
const NAMESPACES: &[&str] = &["mnt", "net", "uts", "ipc", "pid", "user", "cgroup", "time"];

/// The worker that the arguments of `spawn_worker` ask for.
pub(super) fn spec(args: &Args) -> std::result::Result<WorkerSpec, LuaError> {
    let options = args.options(0, &["thread", "user", "cwd", "env", "namespaces"])?;
    if options.flag("thread")? {
        let text = "option `thread`: true is future work; a worker is a guest process of its own. For \
                    several threads of control use several workers, co.spawn, or syscall_async";
        return Err(LuaError::argument(text));
    }
    let env = options
        .table("env")?
        .map(|env| environment(&env))
        .transpose()?
        .unwrap_or_default();
    let namespaces = options.list("namespaces")?.unwrap_or_default();
    let namespaces = namespaces.iter().map(|name| {
        let name = text_of(name)
            .map_err(|why| LuaError::argument(format!("option `namespaces`: {why}")))?;
        if NAMESPACES.contains(&name.as_str()) {
            return Ok(name);
        }
        Err(LuaError::argument(crate::binding::options::unknown(
            "namespace",
            &name,
            NAMESPACES.iter().copied(),
        )))
    });
    Ok(WorkerSpec {
        user: user(&options)?,
        cwd: options.bytes("cwd")?.map(ByteBuf::from),
        env,
        namespaces: namespaces.collect::<std::result::Result<_, _>>()?,
    })
}

/// Makes the class.
pub(super) fn install(lua: &Lua) -> Result<()> {
    Class::<WorkerObject>::new(lua)?
        .with(surface::add)?
        .async_method("kill", |_, this, args| async move {
            let signal = args.opt_signal(0)?.unwrap_or(SIGTERM);
            Ok(this.worker.kill(signal).await?)
        })?
        .async_method(
            "join",
            |_, this, _| async move { Ok(this.worker.join().await?) },
        )?
        .method("handle", |_, this, _| Ok(this.worker.handle()))?
        .method("pid", |_, this, _| Ok(this.worker.pid()))?
        .method("vm", |lua, this, _| {
            Ok::<Value, LuaError>(vm_value(lua, &this.vm)?)
        })?
        .async_method("close", |_, this, _| async move {
            Ok(this.worker.close().await?)
        })?
        .finish()
}
