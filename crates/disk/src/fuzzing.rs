//! Functions for a fuzzer. They take hostile bytes and panic if an invariant does not hold.

use crate::save::Content;

/// A map of a saved disk that is accepted is the same when it is written and read again. The checksum is added here: it
/// protects against damage and not against hostility.
pub fn map(bytes: &[u8]) {
    const SECTORS: u64 = 80;
    const FILES: [u64; 2] = [4096 * 3, 4096];
    let Ok(content) = Content::decode(&Content::seal(bytes), SECTORS, &FILES) else {
        return;
    };
    let written = content.encode();
    match Content::decode(&written, SECTORS, &FILES) {
        Ok(again) => assert_eq!(again.encode(), written),
        Err(reason) => panic!("what was read cannot be read again: {reason}"),
    }
}

#[cfg(test)]
mod tests {
    use crate::save::Content;
    use provium_testkit::replay;

    #[test]
    fn hostile_maps() {
        let mut sealed = Content::example().encode();
        sealed.truncate(sealed.len() - 8);
        replay(&[sealed, b"PVDMAP01".to_vec()], 20_000, super::map);
    }
}
