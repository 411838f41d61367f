//! Users and groups of the guest, from its own `/etc/passwd` and `/etc/group`.

use crate::failure;
use crate::sys::process::Identity;
use crate::sys::{Sys, file};
use provium_protocol::WireError;

/// A user of the guest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct User {
    pub(crate) name: Vec<u8>,
    pub(crate) home: Vec<u8>,
    pub(crate) identity: Identity,
}

/// The user of a name or number.
pub(crate) fn find(wanted: &str) -> Result<User, WireError> {
    let passwd = optional(file::read("/etc/passwd"));
    let groups = optional(file::read("/etc/group"));
    look_up(wanted, &passwd, &groups)
        .ok_or_else(|| failure::invalid(format!("the guest has no user `{wanted}`")))
}

fn optional(content: Sys<Vec<u8>>) -> Vec<u8> {
    content.unwrap_or_default()
}

fn number(field: &[u8]) -> Option<u32> {
    std::str::from_utf8(field).ok()?.parse().ok()
}

fn lines(content: &[u8]) -> impl Iterator<Item = Vec<&[u8]>> {
    content
        .split(|byte| *byte == b'\n')
        .map(|line| line.split(|byte| *byte == b':').collect())
}

fn look_up(wanted: &str, passwd: &[u8], groups: &[u8]) -> Option<User> {
    let id = wanted.parse::<u32>().ok();
    let mut by_number = None;
    for fields in lines(passwd) {
        let [name, _, uid, gid, _, home, ..] = fields[..] else {
            continue;
        };
        let (Some(uid), Some(gid)) = (number(uid), number(gid)) else {
            continue;
        };
        let is_it = name == wanted.as_bytes();
        if is_it || (Some(uid) == id && by_number.is_none()) {
            let identity = Identity {
                uid,
                gid,
                groups: groups_of(name, gid, groups),
            };
            let user = User {
                name: name.to_vec(),
                home: home.to_vec(),
                identity,
            };
            if is_it {
                return Some(user);
            }
            by_number = Some(user);
        }
    }
    // A number needs no entry; and a guest without the file has its root all the same.
    let unlisted = match (id, wanted) {
        (Some(id), _) => Some((id, b"/".to_vec())),
        (None, "root") => Some((0, b"/root".to_vec())),
        _ => None,
    };
    by_number.or_else(|| {
        unlisted.map(|(id, home)| User {
            name: wanted.as_bytes().to_vec(),
            home,
            identity: Identity {
                uid: id,
                gid: id,
                groups: vec![id],
            },
        })
    })
}

fn groups_of(name: &[u8], first: u32, groups: &[u8]) -> Vec<u32> {
    let mut found = vec![first];
    for fields in lines(groups) {
        let [_, _, gid, members] = fields[..] else {
            continue;
        };
        let is_member = members
            .split(|byte| *byte == b',')
            .any(|member| member == name);
        if let Some(gid) = number(gid)
            && is_member
            && !found.contains(&gid)
        {
            found.push(gid);
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &[u8] = b"root:x:0:0:root:/root:/bin/sh\nbroken\nann:x:1000:100:Ann:/home/ann:/bin/sh\n1000:x:7:8::/odd:\n";
    const GROUP: &[u8] = b"root:x:0:\nusers:x:100:\ndisk:x:6:bob,ann\nkvm:x:20:ann\n";

    #[test]
    fn a_name_gets_its_groups() {
        let ann = look_up("ann", PASSWD, GROUP).unwrap();
        assert_eq!(
            ann.identity,
            Identity {
                uid: 1000,
                gid: 100,
                groups: vec![100, 6, 20]
            }
        );
        assert_eq!(ann.home, b"/home/ann");
    }

    #[test]
    fn a_number_is_a_name_first_then_a_uid_then_itself() {
        assert_eq!(look_up("1000", PASSWD, GROUP).unwrap().identity.uid, 7);
        assert_eq!(look_up("0", PASSWD, GROUP).unwrap().name, b"root");
        let stranger = look_up("4711", PASSWD, GROUP).unwrap();
        assert_eq!(
            stranger.identity,
            Identity {
                uid: 4711,
                gid: 4711,
                groups: vec![4711]
            }
        );
    }

    #[test]
    fn an_unknown_name_is_nobody() {
        assert_eq!(look_up("bob", PASSWD, GROUP), None);
        assert_eq!(look_up("root", b"", b"").unwrap().identity.uid, 0);
    }
}
