//! Labs within labs: adding members, and listing the members of a lab at any depth.
//!
//! A lab may be a member of several others, but never of itself, directly or through its members. A
//! member that is reached on several paths counts once.

use crate::error::LabError;
use crate::graph::lab::{Lab, Member, invalid};
use crate::network::Bridge;
use crate::resource::Scope;
use crate::vm::Vm;

impl Lab {
    /// Adds members to this lab: all of them, or none.
    ///
    /// # Errors
    /// When a name is taken or given twice, or when a lab would be a member of itself, directly or
    /// through its members.
    pub fn include(&self, scope: &Scope, members: Vec<Member>) -> Result<(), LabError> {
        for (index, member) in members.iter().enumerate() {
            let name = member.name();
            let call = format!("include({name:?})");
            if let Member::Lab(lab) = member {
                if lab.is_root() || lab.id() == self.id() {
                    return Err(invalid(
                        self,
                        &call,
                        "a lab cannot be its own member".to_owned(),
                    ));
                }
                if labs_below(lab, scope)
                    .iter()
                    .any(|lab| lab.id() == self.id())
                {
                    let why = format!(
                        "lab `{name}` contains lab `{}` already; a lab cannot be its own member",
                        self.name()
                    );
                    return Err(invalid(self, &call, why));
                }
            }
            if members[..index].iter().any(|other| other.name() == name) {
                return Err(invalid(self, &call, "the list names it twice".to_owned()));
            }
            self.check_new_name(scope, &name, &call)?;
        }
        self.adopt(scope, members);
        Ok(())
    }

    /// The VMs of this lab and of its sub-labs at any depth, each once.
    pub fn all_vms(&self, scope: &Scope) -> Vec<Vm> {
        let vms = vms_below(self, scope).into_iter();
        vms.map(|(_, vm)| vm).collect()
    }

    /// The bridges of this lab and of its sub-labs at any depth, each once.
    pub fn all_bridges(&self, scope: &Scope) -> Vec<Bridge> {
        let bridges = bridges_below(self, scope).into_iter();
        bridges.map(|(_, bridge)| bridge).collect()
    }
}

/// Its VMs and those of its sub-labs, each once, with the sub-labs on the path.
pub(crate) fn vms_below(lab: &Lab, scope: &Scope) -> Vec<(Vec<String>, Vm)> {
    let mut found: Vec<(Vec<String>, Vm)> = Vec::new();
    for (path, lab) in labs_with_paths(lab, scope) {
        for member in lab.members(scope) {
            if let Member::Vm(vm) = member
                && found.iter().all(|(_, known)| !known.is(&vm))
            {
                found.push((path.clone(), vm));
            }
        }
    }
    found
}

/// Its bridges and those of its sub-labs, each once, with the sub-labs on the path.
pub(crate) fn bridges_below(lab: &Lab, scope: &Scope) -> Vec<(Vec<String>, Bridge)> {
    let mut found: Vec<(Vec<String>, Bridge)> = Vec::new();
    for (path, lab) in labs_with_paths(lab, scope) {
        for member in lab.members(scope) {
            if let Member::Bridge(bridge) = member
                && found.iter().all(|(_, known)| known.id() != bridge.id())
            {
                found.push((path.clone(), bridge));
            }
        }
    }
    found
}

/// The labs below this one, at any depth.
pub(crate) fn labs_below(lab: &Lab, scope: &Scope) -> Vec<Lab> {
    let labs = labs_with_paths(lab, scope).into_iter().skip(1);
    labs.map(|(_, lab)| lab).collect()
}

/// This lab and those below it, each once, with the sub-labs on the path.
fn labs_with_paths(lab: &Lab, scope: &Scope) -> Vec<(Vec<String>, Lab)> {
    let mut found = vec![(Vec::new(), lab.clone())];
    let mut at = 0;
    while let Some((path, lab)) = found.get(at).cloned() {
        for member in lab.members(scope) {
            if let Member::Lab(lab) = member
                && found.iter().all(|(_, known)| known.id() != lab.id())
            {
                let mut path = path.clone();
                path.push(lab.name().to_owned());
                found.push((path, lab));
            }
        }
        at += 1;
    }
    found
}
