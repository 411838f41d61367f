//! Plain HTTP. What is fetched is checked afterwards: by a signature, or by a hash that was signed.

use crate::error::ImageError;
use camino::Utf8Path;
use sha2::{Digest as _, Sha256};
use std::fmt::Write as _;
use std::io::{Read as _, Write as _};
use std::time::Duration;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(30);
const RESPONSE_TIMEOUT: Duration = Duration::from_secs(60);
const TOTAL_TIMEOUT: Duration = Duration::from_secs(1200);

/// Largest file, bytes.
const LONGEST: u64 = 2 << 30;

/// The length and SHA-256 of a file, in hexadecimal digits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Fingerprint {
    pub(super) length: u64,
    pub(super) sha256: String,
}

/// A client that uses the proxy of the environment.
pub(super) fn client() -> ureq::Agent {
    let config = ureq::Agent::config_builder()
        .timeout_connect(Some(CONNECT_TIMEOUT))
        .timeout_recv_response(Some(RESPONSE_TIMEOUT))
        .timeout_global(Some(TOTAL_TIMEOUT));
    config.build().into()
}

/// Fetches `url` to the file `path`; `received` gets the number of bytes of each part. The content is
/// what `expected` says, where it is known.
pub(super) fn fetch(
    client: &ureq::Agent,
    url: &str,
    path: &Utf8Path,
    expected: Option<&Fingerprint>,
    mut received: impl FnMut(u64),
) -> Result<(), ImageError> {
    let failed = |why: String| ImageError::Fetch {
        url: url.to_owned(),
        why,
    };
    let response = client.get(url).call();
    let response = response.map_err(|error| failed(error.to_string()))?;
    let limit = expected.map_or(LONGEST, |expected| expected.length);
    let mut body = response.into_body().into_reader().take(limit + 1);
    let mut file = fs_err::File::create(path).map_err(provium_store::StoreError::from)?;
    let mut hash = Sha256::new();
    let mut length = 0;
    let mut buffer = vec![0; 64 << 10];
    loop {
        let count = body
            .read(&mut buffer)
            .map_err(|error| failed(error.to_string()))?;
        let part = &buffer[..count];
        if part.is_empty() {
            break;
        }
        hash.update(part);
        file.write_all(part)
            .map_err(provium_store::StoreError::from)?;
        length += count as u64;
        received(count as u64);
    }
    if length > limit {
        return Err(failed(format!("it has more than {limit} bytes")));
    }
    let sha256 = hexadecimal(&hash.finalize());
    match expected {
        Some(expected) if (expected.length, &expected.sha256) != (length, &sha256) => {
            Err(failed(format!(
                "it has {length} bytes and the SHA-256 {sha256}, but {} bytes and {} are signed",
                expected.length, expected.sha256
            )))
        }
        _ => Ok(()),
    }
}

fn hexadecimal(bytes: &[u8]) -> String {
    let mut text = String::new();
    for byte in bytes {
        // A string takes all that is written.
        let _ = write!(text, "{byte:02x}");
    }
    text
}
