//! The arguments that only `provium console` has.

use camino::Utf8PathBuf;
use clap::Args;
use std::ffi::OsString;

#[derive(Debug, Args)]
pub(crate) struct ConsoleArgs {
    /// Profile of the guest; with --resume, the VM [default: the profile `default`, or the only VM]
    #[arg(value_name = "PROFILE")]
    pub(crate) target: Option<String>,
    /// Name of the VM, which becomes its host name [default: the profile's]
    #[arg(long, value_name = "N", conflicts_with = "resume")]
    pub(crate) name: Option<String>,
    /// Enter a VM of this failed test instead of a new guest; `provium kept list` shows them
    #[arg(long, value_name = "ID")]
    pub(crate) resume: Option<String>,
    /// Copy a file or folder into the guest, with permission bits; may be repeated
    #[arg(long, value_name = "HOST:GUEST", value_parser = push)]
    pub(crate) push: Vec<PushOption>,
    /// Command to run instead of a shell
    #[arg(value_name = "COMMAND", last = true)]
    pub(crate) command: Vec<OsString>,
}

/// A file or folder that is copied into the guest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PushOption {
    /// The file of the host.
    pub(crate) host: Utf8PathBuf,
    /// Its path in the guest.
    pub(crate) guest: String,
}

fn push(text: &str) -> Result<PushOption, String> {
    // A path of the guest rarely has a colon, one of the host may.
    let parts = text.rsplit_once(':');
    let Some((host, guest)) = parts.filter(|(host, _)| !host.is_empty()) else {
        return Err("write the path on the host, `:`, and the path in the guest".to_owned());
    };
    if !guest.starts_with('/') {
        return Err(format!(
            "the path in the guest, `{guest}`, does not begin with `/`"
        ));
    }
    let host = Utf8PathBuf::from(host);
    // As `cp` does.
    let guest = match (guest.ends_with('/'), host.file_name()) {
        (true, Some(name)) => format!("{guest}{name}"),
        _ => guest.to_owned(),
    };
    Ok(PushOption { host, guest })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_push_names_a_file_and_a_place_in_the_guest() {
        let parsed = |text: &str| push(text).map(|push| (push.host.to_string(), push.guest));
        let is = |host: &str, guest: &str| Ok((host.to_owned(), guest.to_owned()));
        assert_eq!(parsed("a.sh:/tmp/b"), is("a.sh", "/tmp/b"));
        assert_eq!(parsed("dir/a.sh:/tmp/"), is("dir/a.sh", "/tmp/a.sh"));
        assert_eq!(parsed("a:b:/c"), is("a:b", "/c"));
        for wrong in ["a.sh", ":/tmp/b", "a.sh:", "a.sh:tmp"] {
            assert!(push(wrong).is_err(), "{wrong}");
        }
    }
}
