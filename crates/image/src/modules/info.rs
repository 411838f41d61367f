//! The metadata of a module, from its section `.modinfo`.

use super::name::normalized;
use crate::elf::Elf;

/// The lines of a `.modinfo` section that count here.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct ModuleInfo {
    /// Its own name, if it says so (older modules do not).
    pub(super) name: Option<String>,
    /// Modules whose symbols it uses.
    pub(super) depends: Vec<String>,
    /// Modules that are loaded before it if they are there.
    pub(super) before: Vec<String>,
    /// Modules that are loaded after it if they are there.
    pub(super) after: Vec<String>,
    pub(super) aliases: Vec<String>,
}

impl ModuleInfo {
    /// `None` if `object` is not a module.
    pub(super) fn of_object(object: &[u8]) -> Option<Self> {
        let section = Elf::parse(object)?.section(".modinfo")?;
        let mut info = Self::default();
        for line in lines(section) {
            if let Some((key, value)) = line.split_once('=') {
                info.add(key, value);
            }
        }
        Some(info)
    }

    pub(super) fn add(&mut self, key: &str, value: &str) {
        match key {
            "name" => self.name = Some(normalized(value)),
            "depends" => self.depends.extend(names(value.split(','))),
            "alias" => self.aliases.push(value.to_owned()),
            "softdep" => {
                let mut before = true;
                for word in value.split_whitespace() {
                    match word {
                        "pre:" => before = true,
                        "post:" => before = false,
                        name if before => self.before.push(normalized(name)),
                        name => self.after.push(normalized(name)),
                    }
                }
            }
            _ => (),
        }
    }
}

/// The texts in a section of texts that each end with a NUL.
pub(super) fn lines(section: &[u8]) -> impl Iterator<Item = &str> {
    let texts = section
        .split(|byte| *byte == 0)
        .filter(|text| !text.is_empty());
    texts.filter_map(|text| std::str::from_utf8(text).ok())
}

fn names<'a>(list: impl Iterator<Item = &'a str>) -> impl Iterator<Item = String> {
    list.filter(|name| !name.is_empty()).map(normalized)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::elf::tests::module;

    #[test]
    fn every_line_that_counts_is_read() {
        let object = module(&[
            "name=virtio-net",
            "depends=net_failover,virtio-ring,",
            "softdep=pre: crc32c sha256 post: late-one",
            "alias=virtio:d1v*",
            "alias=x",
            "license=GPL",
            "depends=",
        ]);
        let expected = ModuleInfo {
            name: Some("virtio_net".to_owned()),
            depends: vec!["net_failover".to_owned(), "virtio_ring".to_owned()],
            before: vec!["crc32c".to_owned(), "sha256".to_owned()],
            after: vec!["late_one".to_owned()],
            aliases: vec!["virtio:d1v*".to_owned(), "x".to_owned()],
        };
        assert_eq!(ModuleInfo::of_object(&object), Some(expected));
        assert_eq!(ModuleInfo::of_object(b"no module"), None);
    }
}
