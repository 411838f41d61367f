//! Whether the host is short of processors or memory, by the kernel's pressure stall information
//! (`Documentation/accounting/psi.rst` of Linux).
//!
//! The pool shares out what the run may use; it cannot know what else the host is doing, nor what a
//! guest really costs. `some avg10` can: it is the share of the last ten seconds, in hundredths, in
//! which at least one task was stalled on the resource. The thresholds are far from what a
//! full pool causes by itself: guests that keep every processor busy make others wait some of the
//! time, but not nearly all of it, and a host that has memory left has no memory pressure at all.
//!
//! Text in, decision out; only [`Pressure::read`] looks at files. Where the kernel has no such files,
//! nothing is ever held back.

use camino::Utf8Path;

/// From here on processors are short, hundredths of time.
const CPU_LIMIT: f64 = 95.0;

/// From here on memory is short, hundredths of time. Guests whose pages are being written out and
/// read again are stalled; a second in ten of that already doubles the time of a boot.
const MEMORY_LIMIT: f64 = 10.0;

/// The kernel's last values; `None` if it has none.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(crate) struct Pressure {
    pub(crate) cpu: Option<f64>,
    pub(crate) memory: Option<f64>,
}

impl Pressure {
    /// Reads `cpu` and `memory` in `folder`, which is `/proc/pressure`.
    pub(crate) fn read(folder: &Utf8Path) -> Self {
        let read = |name| {
            let text = std::fs::read_to_string(folder.join(name)).ok()?;
            some_avg10(&text)
        };
        Self {
            cpu: read("cpu"),
            memory: read("memory"),
        }
    }

    /// Whether a further file would only make it worse.
    pub(crate) fn is_high(self) -> bool {
        let reaches = |value: Option<f64>, limit| value.is_some_and(|value| value >= limit);
        reaches(self.cpu, CPU_LIMIT) || reaches(self.memory, MEMORY_LIMIT)
    }
}

/// The value after `avg10=` in the line that begins with `some`.
fn some_avg10(text: &str) -> Option<f64> {
    let line = text.lines().find_map(|line| line.strip_prefix("some "))?;
    let value = line
        .split_ascii_whitespace()
        .find_map(|field| field.strip_prefix("avg10="))?;
    value.parse().ok().filter(|value: &f64| value.is_finite())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_text_is_read() {
        let text = "some avg10=12.34 avg60=3.63 avg300=2.02 total=21120551\n\
                    full avg10=99.00 avg60=0.00 avg300=0.00 total=0\n";
        assert_eq!(some_avg10(text), Some(12.34));
        for none in [
            "",
            "full avg10=1.0",
            "some total=3",
            "some avg10=",
            "some avg10=nan",
        ] {
            assert_eq!(some_avg10(none), None, "{none}");
        }
    }

    #[test]
    fn only_what_is_short_holds_back() {
        let high = |cpu, memory| Pressure { cpu, memory }.is_high();
        assert!(!high(None, None));
        assert!(!high(Some(94.9), Some(9.9)));
        assert!(high(Some(95.0), None));
        assert!(high(Some(0.0), Some(10.0)));
    }

    #[test]
    fn a_host_without_such_files_has_no_pressure() {
        let dir = tempfile::tempdir().unwrap();
        let folder = Utf8Path::from_path(dir.path()).unwrap();
        assert_eq!(Pressure::read(folder), Pressure::default());
    }
}
