//! Names and their addresses.

use std::collections::BTreeMap;
use std::net::IpAddr;

/// The names that a DNS server knows. Letters are equal in both cases.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct DnsTable {
    addresses: BTreeMap<String, Vec<IpAddr>>,
    /// By the names of RFC 1035, 3.5, and RFC 3596, 2.5.
    names: BTreeMap<String, String>,
}

impl DnsTable {
    /// Adds names of an address. The first name is the answer to a question for the address.
    pub fn insert<'a>(&mut self, address: IpAddr, names: impl IntoIterator<Item = &'a str>) {
        let mut names = names.into_iter().map(normal).peekable();
        if let Some(first) = names.peek() {
            let reverse = reverse_name(address);
            self.names.entry(reverse).or_insert_with(|| first.clone());
        }
        for name in names {
            let addresses = self.addresses.entry(name).or_default();
            if !addresses.contains(&address) {
                addresses.push(address);
            }
        }
    }

    /// The addresses of a name; `None` if the name is not known.
    pub(super) fn addresses(&self, name: &str) -> Option<&[IpAddr]> {
        self.addresses.get(&normal(name)).map(Vec::as_slice)
    }

    /// The name of the address that `name` stands for, such as `2.0.0.10.in-addr.arpa`.
    pub(super) fn name_of(&self, name: &str) -> Option<&str> {
        self.names.get(&normal(name)).map(String::as_str)
    }
}

fn normal(name: &str) -> String {
    name.trim_end_matches('.').to_ascii_lowercase()
}

fn reverse_name(address: IpAddr) -> String {
    match address {
        IpAddr::V4(address) => {
            let [a, b, c, d] = address.octets();
            format!("{d}.{c}.{b}.{a}.in-addr.arpa")
        }
        IpAddr::V6(address) => {
            let mut name = String::new();
            for byte in address.octets().into_iter().rev() {
                name.push_str(&format!("{:x}.{:x}.", byte & 0xf, byte >> 4));
            }
            name + "ip6.arpa"
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_has_the_first_of_its_names() {
        let mut table = DnsTable::default();
        let address: IpAddr = "10.0.0.2".parse().expect("an address");
        table.insert(address, ["b.lan", "B"]);
        assert_eq!(table.addresses("B.LAN."), Some(&[address][..]));
        assert_eq!(table.addresses("b"), Some(&[address][..]));
        assert_eq!(table.addresses("c"), None);
        assert_eq!(table.name_of("2.0.0.10.in-addr.arpa"), Some("b.lan"));
        let address: IpAddr = "fd00::2".parse().expect("an address");
        table.insert(address, ["b.lan"]);
        assert_eq!(table.addresses("b.lan").expect("known").len(), 2);
        let reverse = format!("2.{}0.0.d.f.ip6.arpa", "0.".repeat(27));
        assert_eq!(table.name_of(&reverse), Some("b.lan"));
    }
}
