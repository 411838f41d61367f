//! Whether a mirror's list is signed by the distribution: `gpgv` or `sqv` decides.

use crate::error::ImageError;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use camino::Utf8Path;
use provium_process::{Command, output};
use std::time::Duration;

/// Debian's keys for the release that [`mirror`](super::mirror) fetches.
pub(super) const DEBIAN_KEYS: &str = include_str!("../../keys/debian-12.asc");

/// What is missing where nothing can verify a signature.
pub(super) const MISSING: &str = "neither `apt-get` is installed, nor `gpgv` or `sqv`, which check the \
    signatures of Debian's mirror; install one of them (`gpgv` is part of GnuPG)";

const DEADLINE: Duration = Duration::from_secs(60);

/// The program that verifies signatures on this host.
pub(super) fn verifier() -> Option<&'static str> {
    let mut programs = ["gpgv", "sqv"].into_iter();
    programs.find(|program| Command::new(*program).resolve().is_ok())
}

/// Checks that one of `keys`, an armoured block of public keys, has made a signature in the file `signature`
/// of the file `signed`. Writes to their folder.
pub(super) async fn verify(
    keys: &str,
    signature: &Utf8Path,
    signed: &Utf8Path,
) -> Result<(), ImageError> {
    let refused = |why: String| ImageError::Untrusted {
        what: signed.to_string(),
        why,
    };
    let verifier = verifier().ok_or_else(|| refused(MISSING.to_owned()))?;
    let bytes = dearmoured(keys).ok_or_else(|| refused("its keys are damaged".to_owned()))?;
    let keyring = signed.with_file_name("keyring.gpg");
    crate::images::write(&keyring, &bytes)?;
    let mut command = Command::new(verifier);
    if verifier == "gpgv" {
        command.args(["--status-fd", "1"]);
    }
    command
        .args(["--keyring", keyring.as_str()])
        .args([signature.as_str(), signed.as_str()])
        .env("LC_ALL", "C.UTF-8");
    let said = output(command, DEADLINE).await?;
    let is_signed = match verifier {
        // It also fails for signatures of keys that it does not have.
        "gpgv" => is_valid(&String::from_utf8_lossy(&said.stdout)),
        _ => said.exit.success(),
    };
    if is_signed {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&said.stderr).into_owned();
    let said = said.lines().collect::<Vec<_>>().join("; ");
    Err(refused(format!("{verifier} says: {said}")))
}

/// Whether `gpgv` has found a good signature and no bad one (GnuPG, `doc/DETAILS`).
fn is_valid(status: &str) -> bool {
    let mut words = status
        .lines()
        .filter_map(|line| line.strip_prefix("[GNUPG:] ")?.split(' ').next());
    let has_bad = words.clone().any(|word| word == "BADSIG");
    words.any(|word| word == "VALIDSIG") && !has_bad
}

/// The keys of an armoured block (RFC 9580, 6.2), or of several.
fn dearmoured(text: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    for block in text.split("-----BEGIN PGP PUBLIC KEY BLOCK-----").skip(1) {
        let (block, _) = block.split_once("-----END")?;
        let (_headers, body) = block.split_once("\n\n")?;
        // A line that begins so is a checksum.
        let lines = body.lines().filter(|line| !line.starts_with('='));
        bytes.extend(STANDARD.decode(lines.collect::<String>()).ok()?);
    }
    (!bytes.is_empty()).then_some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_good_signature_suffices_and_a_bad_one_fails() {
        let good = "[GNUPG:] NEWSIG\n[GNUPG:] VALIDSIG 4CB5 2026-07-11\n";
        let unknown = "[GNUPG:] ERRSIG 78DB 1 8\n[GNUPG:] NO_PUBKEY 78DB\n";
        let bad = "[GNUPG:] BADSIG 4CB5 Debian\n";
        assert!(is_valid(good));
        assert!(is_valid(&format!("{unknown}{good}")));
        for status in ["", unknown, bad, &format!("{good}{bad}"), "VALIDSIG"] {
            assert!(!is_valid(status), "{status}");
        }
    }

    #[test]
    fn the_keys_are_openpgp_packets() {
        let keys = dearmoured(DEBIAN_KEYS).unwrap();
        assert_eq!(keys[0], 0x98, "a public key (RFC 9580, 4.2)");
        assert_eq!(dearmoured("no keys"), None);
    }
}
