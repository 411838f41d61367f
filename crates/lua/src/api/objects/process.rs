//! `process`: a command that runs in the background.

use super::result;
use super::stream::{self, StreamOrigin};
use super::value::{self, call_site};
use crate::binding::class::{Class, Object};
use crate::binding::raise::LuaError;
use crate::engine::started_processes::state;
use crate::engine::test_file::TestFileState;
use mlua::{Lua, Result, Value};
use provium_lab::{LabClone, OutputKind, Process, ProcessStatus};

const SIGTERM: i32 = 15;

/// A process as Lua holds it.
#[derive(Clone)]
pub(super) struct ProcessObject(Process);

impl Object for ProcessObject {
    const CLASS: &'static str = "process";
    fn subject(&self) -> String {
        self.0.subject()
    }
    fn resolve_in(&self, copy: &LabClone) -> Self {
        Self(copy.process(&self.0))
    }
    fn describe(&self) -> String {
        format!("{} ({})", self.0.subject(), state(&self.0))
    }
}

/// The Lua value of a process that was started.
pub(super) fn value(lua: &Lua, process: Process) -> Result<Value> {
    let group = TestFileState::of(lua).current_group();
    group.processes.add(&process);
    value::of(lua, process.id(), || ProcessObject(process))
}

/// Makes the class.
pub(super) fn install(lua: &Lua) -> Result<()> {
    Class::<ProcessObject>::new(lua)?
        .with(control)?
        .with(outputs)?
        .finish()
}

fn control(class: Class<'_, ProcessObject>) -> Result<Class<'_, ProcessObject>> {
    class
        .async_method("wait", |lua, this, args| async move {
            let timeout = args.opt_duration(0, "the timeout")?;
            if timeout.is_some_and(|timeout| timeout.is_zero()) {
                let text = "a timeout of 0 would kill it at once; to look without waiting, use proc:status()";
                return Err(LuaError::argument(text));
            }
            Ok(result::value_of_process(&lua, this.0.wait(timeout).await?)?)
        })?
        .async_method("kill", |_, this, args| async move {
            Ok(this.0.kill(args.opt_signal(0)?.unwrap_or(SIGTERM)).await?)
        })?
        .async_method("signal", |_, this, args| async move {
            let signal = args.opt_signal(0)?;
            let signal = signal.ok_or_else(|| LuaError::argument("the signal is missing"))?;
            Ok(this.0.signal(signal).await?)
        })?
        .method("pid", |_, this, _| Ok(this.0.pid()))?
        .method("handle", |_, this, _| Ok(this.0.id().number()))?
        .async_method("status", |_, this, _| async move {
            Ok(match this.0.status().await? {
                ProcessStatus::Running => "running",
                ProcessStatus::Exited => "exited",
            })
        })?
        .async_method("close", |_, this, _| async move { Ok(this.0.close().await?) })
}

fn outputs(class: Class<'_, ProcessObject>) -> Result<Class<'_, ProcessObject>> {
    class
        .async_method("stdin_write", |_, this, args| async move {
            Ok(this.0.stdin_write(&args.bytes(0, "the data")?).await?)
        })?
        .method("close_stdin", |_, this, _| {
            this.0.close_stdin();
            Ok(())
        })?
        .method("stdout_stream", |lua, this, _| {
            let (scope, site) = call_site(lua);
            let stream = this.0.stream(&scope, OutputKind::Stdout, site);
            Ok(stream::value_of(
                lua,
                stream,
                StreamOrigin::Process(this.0.clone()),
            )?)
        })?
        .method("stderr_stream", |lua, this, _| {
            let (scope, site) = call_site(lua);
            let stream = this.0.stream(&scope, OutputKind::Stderr, site);
            Ok(stream::value_of(
                lua,
                stream,
                StreamOrigin::Process(this.0.clone()),
            )?)
        })
}
