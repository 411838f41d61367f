//! The root of the default guest, around whatever packages bring: folders, users, busybox.
//!
//! The root is *usr-merged*: `/bin`, `/sbin` and `/lib*` are links into `/usr`. Packages that still
//! ship the old paths are put right by the tree, which follows the links.

use crate::error::ImageError;
use crate::node::Node;
use crate::tree::Tree;
use provium_protocol::boot::AGENT_PATH;

const MERGED: [&str; 4] = ["bin", "sbin", "lib", "lib64"];

const FOLDERS: [(&str, u32); 19] = [
    ("dev", 0o755),
    ("etc", 0o755),
    ("home", 0o755),
    ("media", 0o755),
    ("mnt", 0o755),
    ("opt", 0o755),
    ("proc", 0o555),
    ("root", 0o700),
    ("run", 0o755),
    ("srv", 0o755),
    ("sys", 0o555),
    ("tmp", 0o1777),
    ("usr/local/bin", 0o755),
    ("usr/local/sbin", 0o755),
    ("usr/share", 0o755),
    ("var/lib", 0o755),
    ("var/log", 0o755),
    ("var/spool", 0o755),
    ("var/tmp", 0o1777),
];

/// Files that are there unless a package has them.
const FILES: [(&str, &str); 7] = [
    (
        "etc/passwd",
        "root:x:0:0:root:/root:/bin/sh\n\
         daemon:x:1:1:daemon:/usr/sbin:/bin/false\n\
         bin:x:2:2:bin:/bin:/bin/false\n\
         sys:x:3:3:sys:/dev:/bin/false\n\
         tester:x:1000:1000:tester:/home/tester:/bin/sh\n\
         nobody:x:65534:65534:nobody:/nonexistent:/bin/false\n",
    ),
    (
        "etc/group",
        "root:x:0:\ndaemon:x:1:\nbin:x:2:\nsys:x:3:\nadm:x:4:\ntty:x:5:\ndisk:x:6:\nkmem:x:15:\n\
         shadow:x:42:\nutmp:x:43:\nusers:x:100:\ntester:x:1000:\nnogroup:x:65534:\n",
    ),
    (
        "etc/hosts",
        "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n",
    ),
    (
        "etc/nsswitch.conf",
        "passwd: files\ngroup: files\nshadow: files\nhosts: files dns\n",
    ),
    ("etc/shells", "/bin/sh\n"),
    ("etc/fstab", ""),
    (
        "etc/profile",
        "export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin\n",
    ),
];

/// What busybox's DHCP client runs. The address that the host has set may be the one of the lease, so only
/// addresses that the script has added are removed.
const DHCP_SCRIPT: (&str, &str) = (
    "etc/udhcpc/default.script",
    r#"#!/bin/sh
added=/run/udhcpc.$interface
forget() {
    [ -f "$added" ] && ip addr del "$(cat "$added")" dev "$interface"
    rm -f "$added"
}
case "$1" in
deconfig)
    forget
    ip link set "$interface" up
    ;;
bound | renew)
    lease=$ip/${mask:-24}
    if [ "$(cat "$added" 2>/dev/null)" != "$lease" ]; then
        forget
        ip addr add "$lease" brd + dev "$interface" 2>/dev/null && echo "$lease" >"$added"
    fi
    [ -n "$mtu" ] && ip link set "$interface" mtu "$mtu"
    for gateway in $router; do
        ip route add default via "$gateway" dev "$interface" 2>/dev/null
        break
    done
    if [ -n "$dns" ]; then
        [ -n "$domain" ] && echo "search $domain" >/etc/resolv.conf.new
        for server in $dns; do
            echo "nameserver $server" >>/etc/resolv.conf.new
        done
        mv /etc/resolv.conf.new /etc/resolv.conf
    fi
    ;;
esac
"#,
);

/// Device nodes that must be there before devtmpfs is: character devices, by number.
const DEVICES: [(&str, u32, u32, u32); 4] = [
    ("dev/console", 0o600, 5, 1),
    ("dev/null", 0o666, 1, 3),
    ("dev/tty", 0o666, 5, 0),
    ("dev/zero", 0o666, 1, 5),
];

/// Applets that the guest does not get: the agent replaces them, or they have no use.
const NOT_APPLETS: [&str; 5] = ["init", "linuxrc", "modprobe", "depmod", "busybox"];

/// Where programs are; one of a name in any of them keeps busybox's out.
const PROGRAMS: [&str; 2] = ["usr/bin", "usr/sbin"];

/// Busybox, and the paths (relative to the root) of what it can be called as.
#[derive(Debug, Clone)]
pub(super) struct Busybox {
    pub(super) program: Vec<u8>,
    pub(super) applets: Vec<String>,
}

/// The kernel's part of the root.
#[derive(Debug, Clone)]
pub(super) struct Release {
    pub(super) name: String,
    /// The list of what is part of the kernel, where there is one.
    pub(super) builtin: Option<Vec<u8>>,
}

/// A root without any program.
pub(super) fn start() -> Result<Tree, ImageError> {
    let mut tree = Tree::default();
    tree.add_root(0o755);
    for name in MERGED {
        tree.put(format!("usr/{name}").as_bytes(), Node::directory(0o755))?;
        tree.put(name.as_bytes(), Node::symlink(format!("usr/{name}")))?;
    }
    for (path, perm) in FOLDERS {
        tree.put(path.as_bytes(), Node::directory(perm))?;
    }
    Ok(tree)
}

/// Fills the gaps.
pub(super) fn finish(
    tree: &mut Tree,
    busybox: &Busybox,
    release: &Release,
) -> Result<(), ImageError> {
    for (path, perm, major, minor) in DEVICES {
        tree.put(path.as_bytes(), Node::device(perm, major, minor))?;
    }
    for (path, content) in FILES {
        put_if_absent(tree, path, Node::file(0o644, content))?;
    }
    let (path, script) = DHCP_SCRIPT;
    put_if_absent(tree, path, Node::file(0o755, script))?;
    put_if_absent(tree, "etc/mtab", Node::symlink("../proc/self/mounts"))?;
    put_if_absent(tree, "var/run", Node::symlink("/run"))?;
    put_if_absent(
        tree,
        "home/tester",
        Node::directory(0o755).owned_by(1000, 1000),
    )?;

    tree.put(
        b"usr/bin/busybox",
        Node::file(0o755, busybox.program.clone()),
    )?;
    for applet in &busybox.applets {
        let Some((_, name)) = applet.rsplit_once('/') else {
            continue;
        };
        let absent = |folder: &&str| tree.get(format!("{folder}/{name}").as_bytes()).is_none();
        if !NOT_APPLETS.contains(&name) && PROGRAMS.iter().all(absent) {
            tree.put(applet.as_bytes(), Node::symlink("/bin/busybox"))?;
        }
    }
    // The agent answers as modprobe: modules come from the host when they are asked for.
    tree.put(b"usr/sbin/modprobe", Node::symlink(AGENT_PATH))?;

    let modules = format!("usr/lib/modules/{}", release.name);
    tree.put(modules.as_bytes(), Node::directory(0o755))?;
    if let Some(builtin) = &release.builtin {
        let path = format!("{modules}/modules.builtin");
        tree.put(path.as_bytes(), Node::file(0o644, builtin.clone()))?;
    }
    Ok(())
}

fn put_if_absent(tree: &mut Tree, path: &str, node: Node) -> Result<(), ImageError> {
    if tree.get(path.as_bytes()).is_some() {
        Ok(())
    } else {
        tree.put(path.as_bytes(), node)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::node::{Content, Kind};

    #[test]
    fn busybox_fills_only_the_gaps() {
        let mut tree = start().unwrap();
        tree.put(b"bin/ip", Node::file(0o755, *b"real ip")).unwrap();
        tree.put(b"etc/hosts", Node::file(0o644, *b"mine")).unwrap();
        let applets = [
            "bin/sh",
            "sbin/ip",
            "sbin/init",
            "sbin/modprobe",
            "usr/bin/awk",
            "linuxrc",
        ];
        let busybox = Busybox {
            program: b"busybox".to_vec(),
            applets: applets.map(str::to_owned).to_vec(),
        };
        let release = Release {
            name: "6.1".to_owned(),
            builtin: Some(b"a.ko\n".to_vec()),
        };
        finish(&mut tree, &busybox, &release).unwrap();

        let get = |path: &str| tree.get(path.as_bytes());
        assert_eq!(get("bin/sh"), Some(&Node::symlink("/bin/busybox")));
        assert_eq!(get("usr/bin/awk"), Some(&Node::symlink("/bin/busybox")));
        assert_eq!(
            get("sbin/modprobe"),
            Some(&Node::symlink("/.provium/agent"))
        );
        assert_eq!(get("sbin/ip"), None);
        assert_eq!(get("sbin/init"), None);
        assert_eq!(get("linuxrc"), None);
        let Some(Node {
            kind: Kind::File(Content::Bytes(hosts)),
            ..
        }) = get("etc/hosts")
        else {
            panic!("no hosts");
        };
        assert_eq!(**hosts, b"mine");
        assert_eq!(get("tmp"), Some(&Node::directory(0o1777)));
        // Busybox's DHCP client executes it.
        let script = get("etc/udhcpc/default.script").map(|node| node.perm);
        assert_eq!(script, Some(0o755));
        assert_eq!(get("home/tester").map(|node| node.uid), Some(1000));
        assert_eq!(
            get("lib/modules/6.1/modules.builtin"),
            Some(&Node::file(0o644, *b"a.ko\n"))
        );
    }
}
