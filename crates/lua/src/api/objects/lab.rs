//! Labs: `provium` itself, and `lab:lab()`.

use super::fixture;
use super::handles::{LabObject, VmObject, lab_value, vm_value};
use super::network::{self, BridgeObject, bridge_value};
use super::settings;
use super::snapshot;
use super::value::{as_object, call_site, time_left};
use super::vm;
use crate::binding::args::Args;
use crate::binding::class::Class;
use crate::binding::options::list_of;
use crate::binding::preview::shown;
use crate::binding::raise::LuaError;
use crate::engine::file_data::file_data;
use crate::engine::test_file::TestFileState;
use crate::testing::Settings;
use mlua::{Lua, Result, Table, Value};
use provium_lab::{Member, MemberKind};
use provium_pool::Claim;
use std::time::Duration;

/// The timeout of a barrier.
const DEFAULT_BARRIER_TIMEOUT: Duration = Duration::from_secs(60);

/// Makes the class and `provium`.
pub(super) fn install(lua: &Lua, native: &Table) -> Result<()> {
    let prelude = TestFileState::of(lua).prelude.clone();
    let root = lua.create_function(|lua, ()| lab_value(lua, &TestFileState::of(lua).lab))?;
    native.raw_set("root", root)?;
    Class::<LabObject>::new(lua)?
        .with(names)?
        .with(membership)?
        .with(lifecycle)?
        .with(fixture::add)?
        .lua_method("pack", &prelude.method("pack")?)?
        .lua_method("unpack", &prelude.method("unpack")?)?
        .finish_with(look_up, |lua, this, key, value| {
            if this.0.is_root() {
                return settings::assign(lua, key, value);
            }
            Err(LuaError::message(format!(
                "a lab has no setting `{key}`; settings belong to provium"
            )))
        })?;
    lua.globals()
        .raw_set("provium", lab_value(lua, &TestFileState::of(lua).lab)?)
}

/// `lab.name`: the member of that name, else nil.
fn look_up(lua: &Lua, this: &LabObject, key: &str) -> std::result::Result<Value, LuaError> {
    let (scope, _) = call_site(lua);
    match this.0.lookup(&scope, key) {
        Some(member) => Ok(member_value(lua, &member)?),
        None if this.0.is_root() => Ok(settings::read(lua, key)?),
        None => Ok(Value::Nil),
    }
}

fn member_value(lua: &Lua, member: &Member) -> Result<Value> {
    match member {
        Member::Vm(vm) => vm_value(lua, vm),
        Member::Bridge(bridge) => bridge_value(lua, bridge),
        Member::Lab(lab) => lab_value(lua, lab),
    }
}

fn names(class: Class<'_, LabObject>) -> Result<Class<'_, LabObject>> {
    let attaching = TestFileState::of(class.lua()).prelude.method("attaching")?;
    class
        .method("name", |_, this, _| Ok(this.0.name().to_owned()))?
        .method("vm", |lua, this, args| {
            let (scope, _) = call_site(lua);
            let name = args.text(0, "the name")?;
            let Some(profile) = args.opt_text(1, "the profile")? else {
                if args.has(2) {
                    return Err(LuaError::argument("options need a profile"));
                }
                let vm = this.0.vm(&scope, &name)?;
                return Ok((vm_value(lua, &vm)?, Value::Nil));
            };
            let options = vm::options(lua, args, 2)?;
            let bridges = vm::bridges(lua, args, 2)?;
            let vm = this.0.create_vm(&scope, &name, &profile, options)?;
            // What the prelude attaches it to.
            let Some(bridges) = bridges else {
                return Ok((vm_value(lua, &vm)?, Value::Nil));
            };
            let bridges = bridges.iter().map(|bridge| bridge_value(lua, bridge));
            let bridges = lua.create_sequence_from(bridges.collect::<Result<Vec<_>>>()?)?;
            Ok((vm_value(lua, &vm)?, Value::Table(bridges)))
        })?
        .wrapped_by("vm", &attaching)?
        .method("bridge", |lua, this, args| {
            let (scope, _) = call_site(lua);
            let name = args.text(0, "the name")?;
            let bridge = this
                .0
                .bridge(&scope, &name, network::bridge_options(args, 1)?)?;
            Ok(bridge_value(lua, &bridge)?)
        })?
        .method("lab", |lua, this, args| {
            let (scope, _) = call_site(lua);
            let name = args.opt_text(0, "the name")?;
            Ok(lab_value(lua, &this.0.sub_lab(&scope, name.as_deref())?)?)
        })?
        .method("members", |lua, this, _| {
            let (scope, _) = call_site(lua);
            let list = lua.create_table()?;
            for (index, member) in this.0.members(&scope).iter().enumerate() {
                let entry = lua.create_table()?;
                entry.raw_set("kind", member.kind().word())?;
                entry.raw_set("name", member.name())?;
                list.raw_set(index + 1, entry)?;
            }
            Ok(list)
        })?
        .method("vm_names", |lua, this, _| {
            Ok(names_of(lua, this, MemberKind::Vm))
        })?
        .method("sub_lab_names", |lua, this, _| {
            Ok(names_of(lua, this, MemberKind::SubLab))
        })?
        .method("bridge_names", |lua, this, _| {
            Ok(names_of(lua, this, MemberKind::Bridge))
        })
}

fn names_of(lua: &Lua, this: &LabObject, kind: MemberKind) -> Vec<String> {
    let (scope, _) = call_site(lua);
    let members = this.0.members(&scope);
    members
        .iter()
        .filter(|member| member.kind() == kind)
        .map(Member::name)
        .collect()
}

fn membership(class: Class<'_, LabObject>) -> Result<Class<'_, LabObject>> {
    class
        .method("include", |lua, this, args| {
            let (scope, _) = call_site(lua);
            let members = match args.value(0) {
                Value::Table(list) => list_of(&list)?,
                one => vec![one],
            };
            let members = members.iter().map(member_of);
            let members = members.collect::<std::result::Result<_, LuaError>>()?;
            Ok(this.0.include(&scope, members)?)
        })?
        .method("remove", |lua, this, args| {
            let (scope, _) = call_site(lua);
            let name = match args.value(0) {
                Value::String(name) => name.to_string_lossy(),
                other => member_of(&other)?.name(),
            };
            Ok(this.0.remove(&scope, &name)?)
        })
}

fn member_of(value: &Value) -> std::result::Result<Member, LuaError> {
    let vm = as_object::<VmObject>(value).map(|vm| Member::Vm(vm.0));
    let bridge = || as_object::<BridgeObject>(value).map(|bridge| Member::Bridge(bridge.0));
    let lab = || as_object::<LabObject>(value).map(|lab| Member::Lab(lab.0));
    let member = vm.or_else(bridge).or_else(lab);
    member.ok_or_else(|| {
        let text = format!("needs a vm, a bridge or a lab, got {}", shown(value));
        LuaError::argument(text)
    })
}

fn lifecycle(class: Class<'_, LabObject>) -> Result<Class<'_, LabObject>> {
    class
        .async_method("boot", |lua, this, _| async move {
            let (scope, _) = call_site(&lua);
            this.0.vms(&scope).boot(time_left(&lua)).await?;
            Ok(lab_value(&lua, &this.0)?)
        })?
        .async_method("shutdown", |lua, this, _| async move {
            let (scope, _) = call_site(&lua);
            Ok(this.0.vms(&scope).shutdown().await?)
        })?
        .async_method("pause", |lua, this, _| async move {
            let (scope, _) = call_site(&lua);
            Ok(this.0.vms(&scope).pause().await?)
        })?
        .async_method("resume", |lua, this, _| async move {
            let (scope, _) = call_site(&lua);
            Ok(this.0.vms(&scope).resume().await?)
        })?
        .async_method("snapshot", |lua, this, args| async move {
            snapshot::take_lab(&lua, &this.0, &args).await
        })?
        .async_method("restore", |lua, this, args| async move {
            snapshot::restore_lab(&lua, &this.0, &args).await?;
            Ok(lab_value(&lua, &this.0)?)
        })?
        .async_method("close", |lua, this, _| async move {
            let (scope, _) = call_site(&lua);
            // Its VMs come before its bridges.
            for member in this.0.members(&scope) {
                match member {
                    Member::Vm(vm) => vm.close().await?,
                    Member::Bridge(bridge) => bridge.close().await?,
                    Member::Lab(_) => {}
                }
            }
            Ok(())
        })?
        .async_method("claim", |_, this, args| async move {
            Ok(this.0.claim(claim(&args)?).await?)
        })?
        .async_method("barrier", |lua, this, args| async move {
            let name = args.text(0, "the name")?;
            let count = args.unsigned(1, "the count")?;
            let timeout = args
                .opt_duration(2, "the timeout")?
                .unwrap_or(DEFAULT_BARRIER_TIMEOUT);
            // Tests that run side by side do not meet each other.
            let (scope, _) = call_site(&lua);
            let apart = file_data::<Settings>(&lua).parallel.get();
            let among = apart.then_some(&scope);
            Ok(this.0.barrier(among, &name, count, timeout).await?)
        })
}

fn claim(args: &Args) -> std::result::Result<Claim, LuaError> {
    let options = args.options(0, &["memory", "cpus"])?;
    if !options.has("memory") && !options.has("cpus") {
        return Err(LuaError::argument(
            "say how much: claim{memory = \"1G\", cpus = 2}",
        ));
    }
    Ok(Claim {
        memory: options.size("memory")?,
        cpus: options.unsigned("cpus")?,
    })
}
