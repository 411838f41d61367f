//! Labs within labs: adding members, and listing the members of a lab at any depth.
//!
//! A lab may be a member of several others, but never of itself, directly or through its members. A
//! member that is reached on several paths counts once.

use crate::error::LabError;
use crate::graph::lab::{Lab, Member, invalid};
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
                if lab
                    .labs_below(scope)
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
        let vms = self.vms_below(scope).into_iter();
        vms.map(|(_, vm)| vm).collect()
    }

    /// Its VMs and those of its sub-labs, each once, with the sub-labs on the path.
    pub(crate) fn vms_below(&self, scope: &Scope) -> Vec<(Vec<String>, Vm)> {
        let mut found: Vec<(Vec<String>, Vm)> = Vec::new();
        let mut open = vec![(Vec::new(), self.clone())];
        let mut seen = vec![self.id()];
        while let Some((path, lab)) = open.pop() {
            for member in lab.members(scope) {
                match member {
                    Member::Vm(vm) if found.iter().any(|(_, known)| known.is(&vm)) => {}
                    Member::Vm(vm) => found.push((path.clone(), vm)),
                    Member::Lab(lab) if !seen.contains(&lab.id()) => {
                        seen.push(lab.id());
                        let mut path = path.clone();
                        path.push(lab.name().to_owned());
                        open.push((path, lab));
                    }
                    Member::Lab(_) => {}
                }
            }
        }
        found
    }

    /// The labs below this one, at any depth.
    pub(crate) fn labs_below(&self, scope: &Scope) -> Vec<Lab> {
        let mut found: Vec<Lab> = Vec::new();
        let mut open = vec![self.clone()];
        while let Some(lab) = open.pop() {
            for member in lab.members(scope) {
                if let Member::Lab(lab) = member
                    && found.iter().all(|known| known.id() != lab.id())
                {
                    found.push(lab.clone());
                    open.push(lab);
                }
            }
        }
        found
    }
}
