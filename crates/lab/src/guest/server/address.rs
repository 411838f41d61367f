//! Addresses as a test's author writes them.

use crate::guest::describe::quoted;
use provium_protocol::op::Address;

/// As an argument: `80`, `"unix:/run/x"`.
pub(super) fn argument(address: &Address) -> String {
    match address {
        Address::Port(port) => port.to_string(),
        Address::Unix(path) => quoted(&[b"unix:".as_slice(), path].concat()),
    }
}

/// In a sentence: `port 80`, `"/run/x"`.
pub(super) fn words(address: &Address) -> String {
    match address {
        Address::Port(port) => format!("port {port}"),
        Address::Unix(path) => quoted(path),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_shown_as_it_was_given() {
        let unix = Address::Unix(b"/run/x".to_vec().into());
        assert_eq!(argument(&Address::Port(80)), "80");
        assert_eq!(argument(&unix), r#""unix:/run/x""#);
        assert_eq!(words(&Address::Port(80)), "port 80");
        assert_eq!(words(&unix), r#""/run/x""#);
    }
}
