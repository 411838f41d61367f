//! What an author may write where a bridge, a VM or a member of a bridge is meant: a handle, or a name.

use super::handles::{BridgeObject, NicObject, PortObject};
use crate::api::objects::handles::VmObject;
use crate::api::objects::value::{as_object, call_site};
use crate::binding::options::{Options, hint, list_of};
use crate::binding::preview::shown;
use crate::binding::raise::LuaError;
use crate::engine::test_file::TestFileState;
use mlua::{Lua, Value};
use provium_lab::{Bridge, Lab, MemberPaths, Scope, Vm};

/// The VMs in a value: one, or a list.
pub(super) fn vms_of(lua: &Lua, value: &Value) -> Result<Vec<Vm>, LuaError> {
    let Value::Table(list) = value else {
        return Ok(vec![vm_of(lua, value)?]);
    };
    let values = list_of(list)?;
    if values.is_empty() {
        return Err(LuaError::argument("the list of VMs is empty"));
    }
    let vms = values.iter().enumerate().map(|(index, value)| {
        vm_of(lua, value).map_err(|error| error.within(&format!("entry {}", index + 1)))
    });
    let vms: Vec<Vm> = vms.collect::<Result<_, _>>()?;
    for (index, vm) in vms.iter().enumerate() {
        if vms[..index].iter().any(|other| other.id() == vm.id()) {
            let text = format!("the list names vm `{}` twice", vm.name());
            return Err(LuaError::argument(text));
        }
    }
    Ok(vms)
}

/// The VM in a value: a handle, or the name of one in the file's labs.
pub(super) fn vm_of(lua: &Lua, value: &Value) -> Result<Vm, LuaError> {
    if let Some(vm) = as_object::<VmObject>(value) {
        return Ok(vm.0);
    }
    let Value::String(name) = value else {
        let text = format!("needs a vm or the name of one, got {}", shown(value));
        return Err(LuaError::argument(text));
    };
    let found = visible(lua, |lab_scope, lab| lab.all_vms(lab_scope));
    named("VM", &name.to_string_lossy(), found, Vm::name, Vm::id)
}

/// The bridge in a value: a handle, or the name of one in the file's labs.
pub(super) fn bridge_of(lua: &Lua, value: &Value) -> Result<Bridge, LuaError> {
    if let Some(bridge) = as_object::<BridgeObject>(value) {
        return Ok(bridge.0);
    }
    let Value::String(name) = value else {
        let text = format!("needs a bridge or the name of one, got {}", shown(value));
        return Err(LuaError::argument(text));
    };
    let found = visible(lua, |lab_scope, lab| lab.all_bridges(lab_scope));
    named(
        "bridge",
        &name.to_string_lossy(),
        found,
        Bridge::name,
        Bridge::id,
    )
}

/// The bridges in a list.
pub(in crate::api::objects) fn bridges_of(
    lua: &Lua,
    value: &Value,
) -> Result<Vec<Bridge>, LuaError> {
    let Value::Table(list) = value else {
        let text = format!(
            "must be a list of bridges or their names, got {}",
            shown(value)
        );
        return Err(LuaError::argument(text));
    };
    let bridges = list_of(list)?;
    bridges
        .iter()
        .map(|bridge| bridge_of(lua, bridge))
        .collect()
}

/// What the labs have that the running code can look up, the nearest scope first: in each the members of the root
/// lab before those of sub-labs.
fn visible<T>(lua: &Lua, all: impl Fn(&Scope, &Lab) -> Vec<T>) -> Vec<Vec<T>> {
    let state = TestFileState::of(lua);
    let (scope, _) = call_site(lua);
    let scopes = std::iter::successors(Some(&scope), |scope| scope.parent());
    scopes.map(|scope| all(scope, &state.lab)).collect()
}

/// The one of that name in the nearest scope.
fn named<T: Clone, I: PartialEq>(
    kind: &str,
    name: &str,
    scopes: Vec<Vec<T>>,
    name_of: impl Fn(&T) -> &str,
    id_of: impl Fn(&T) -> I,
) -> Result<T, LuaError> {
    for found in &scopes {
        let mut same = found.iter().filter(|one| name_of(one) == name);
        let Some(first) = same.next() else { continue };
        if same.any(|other| id_of(other) != id_of(first)) {
            let text = format!("several labs have a {kind} `{name}`; give its handle");
            return Err(LuaError::argument(text));
        }
        return Ok(first.clone());
    }
    let names: Vec<&str> = scopes.iter().flatten().map(name_of).collect();
    let why = match names.as_slice() {
        [] => String::new(),
        _ => hint(name, names.iter().copied()),
    };
    Err(LuaError::argument(format!(
        "{kind} `{name}` does not exist{why}"
    )))
}

/// The name that a member has on the bridge.
pub(super) fn member_name(bridge: &Bridge, value: &Value) -> Result<String, LuaError> {
    let foreign = |what: String| {
        let members = bridge.members();
        let members = match members.as_slice() {
            [] => "nothing is".to_owned(),
            names => format!("its members are {}", names.join(", ")),
        };
        Err(LuaError::argument(format!(
            "{what} is not attached to it; {members}"
        )))
    };
    if let Some(VmObject(vm)) = as_object(value) {
        return match bridge.nic(&vm) {
            Ok(_) => Ok(vm.name().to_owned()),
            Err(_) => foreign(vm.subject()),
        };
    }
    if let Some(NicObject(nic)) = as_object(value) {
        return match bridge.nic(nic.vm()) {
            Ok(_) if nic.bridge().id() == bridge.id() => Ok(nic.vm().name().to_owned()),
            _ => foreign(nic.subject()),
        };
    }
    if let Some(PortObject(port)) = as_object(value) {
        let is_here = port.bridge().id() == bridge.id() && !port.is_closed();
        return if is_here {
            Ok(port.name().to_owned())
        } else {
            foreign(port.subject())
        };
    }
    match value {
        Value::String(name) => Ok(name.to_string_lossy()),
        other => Err(LuaError::argument(format!(
            "needs a vm, a port or the name of one, got {}",
            shown(other)
        ))),
    }
}

/// The members in a value: one, or a list.
pub(super) fn member_names(bridge: &Bridge, value: &Value) -> Result<Vec<String>, LuaError> {
    match value {
        Value::Table(list) => {
            let values = list_of(list)?;
            values
                .iter()
                .map(|value| member_name(bridge, value))
                .collect()
        }
        one => Ok(vec![member_name(bridge, one)?]),
    }
}

/// The options `from` and `to`.
pub(super) fn paths_of(bridge: &Bridge, options: &Options) -> Result<MemberPaths, LuaError> {
    let member = |key: &str| {
        let value = options.value(key);
        let name = value.map(|value| member_name(bridge, value));
        let name = name.transpose();
        name.map_err(|error| error.within(&format!("option `{key}`")))
    };
    Ok(MemberPaths {
        from: member("from")?,
        to: member("to")?,
    })
}
