//! What a fuzzer gives hostile bytes to. It panics where a promise does not hold.

use crate::codec::{Decoder, ServerMessage};

/// A stream means the same however it is cut.
pub fn stream(bytes: &[u8]) {
    let size = usize::from(bytes.first().copied().unwrap_or(0) % 40) + 1;
    assert_eq!(
        format!("{:?}", messages([bytes])),
        format!("{:?}", messages(bytes.chunks(size)))
    );
}

/// The messages up to the first error, and whether there was one.
fn messages<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> (Vec<ServerMessage>, bool) {
    let mut decoder = Decoder::default();
    let mut messages = Vec::new();
    for piece in pieces {
        decoder.feed(piece);
        loop {
            match decoder.next_message() {
                Ok(None) => break,
                Ok(Some(message)) => messages.push(message),
                Err(_) => return (messages, true),
            }
        }
    }
    (messages, false)
}

#[cfg(test)]
mod tests {
    use super::*;
    use provium_testkit::replay;

    #[test]
    fn hostile_streams() {
        let seeds: [&[u8]; 4] = [
            b"{\"QMP\": {\"version\": {\"qemu\": {\"micro\": 0, \"minor\": 2, \"major\": 7}, \
              \"package\": \"x\"}, \"capabilities\": [\"oob\"]}}\r\n",
            b"{\"return\": {\"a\": [1, 2.5, null]}, \"id\": 7}\n",
            b"{\"error\": {\"class\": \"GenericError\", \"desc\": \"no\"}, \"id\": 8}\n",
            b"{\"timestamp\": {\"seconds\": 1, \"microseconds\": 2}, \"event\": \"STOP\"}\n",
        ];
        let mut seeds: Vec<Vec<u8>> = seeds.iter().map(|seed| seed.to_vec()).collect();
        seeds.push(seeds.concat());
        replay(&seeds, 5000, stream);
    }
}
