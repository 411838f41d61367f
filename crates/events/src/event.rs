//! The events themselves.
//!
//! A consumer may rely on this order: `run_started` is first and `run_completed` last; every file is
//! discovered before any is dispatched; a file is dispatched at most once and completed exactly
//! once; a test is started once and then passed, failed or skipped; claims and builds pair.
//!
//! Paths are relative to the root they were found under. Durations are nanoseconds.

use crate::notice::Notice;
use crate::resources::Resources;
use crate::value::Meta;
use serde::{Deserialize, Serialize};

/// Something that happened in a run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", content = "payload", rename_all = "snake_case")]
pub enum Event {
    /// The run begins.
    RunStarted {
        /// The harness's version.
        version: String,
        /// [`PROTOCOL_VERSION`](crate::PROTOCOL_VERSION).
        protocol_version: u32,
        /// The seed of all random choices of the run.
        seed: u64,
        /// The accelerator: `kvm` or `tcg`, or `none` where nothing can boot.
        accel: String,
        /// The host, in words.
        host: String,
    },
    /// The run is over.
    RunCompleted {
        /// Tests that passed.
        passed: u64,
        /// Tests that failed; a file that failed outside of any test counts as one.
        failed: u64,
        /// Tests that were skipped.
        skipped: u64,
        /// Tests among the passed ones that needed more than one attempt.
        flaky: u64,
        /// How long the run took.
        duration_ns: u64,
    },
    /// A file belongs to this run.
    FileDiscovered {
        /// The file.
        path: String,
        /// Fixtures it names.
        fixture_refs: Vec<String>,
        /// The claim that its source makes with literals.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        declared_claim: Option<Resources>,
    },
    /// A file starts to run.
    FileDispatched {
        /// The file.
        path: String,
        /// What the pool has reserved for it.
        reservation: Resources,
    },
    /// A file waits for the pool.
    FileBlocked {
        /// The file.
        path: String,
        /// What it waits for.
        waiting_for: Resources,
        /// Why it has to wait.
        reason: BlockReason,
    },
    /// A file that waited for the pool has what it waited for. Waits of less than a tenth of a second
    /// are not reported.
    FileUnblocked {
        /// The file.
        path: String,
        /// What it waited for.
        amount: Resources,
        /// How long.
        waited_ns: u64,
    },
    /// A file has ended.
    FileCompleted {
        /// The file.
        path: String,
        /// How.
        status: FileStatus,
        /// How long it ran.
        duration_ns: u64,
        /// What went wrong outside of any test.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        error: Option<FileError>,
    },
    /// A test starts.
    TestStarted {
        /// Its file.
        path: String,
        /// Its name.
        name: String,
        /// Its metadata.
        meta: Meta,
    },
    /// A test has passed.
    TestPassed {
        /// Its file.
        path: String,
        /// Its name.
        name: String,
        /// How long it ran.
        duration_ns: u64,
        /// Its metadata.
        meta: Meta,
        /// Details for reports.
        #[serde(default, skip_serializing_if = "Details::is_empty")]
        details: Details,
    },
    /// A test has failed.
    TestFailed {
        /// Its file.
        path: String,
        /// Its name.
        name: String,
        /// How long it ran.
        duration_ns: u64,
        /// Its metadata.
        meta: Meta,
        /// Why.
        reason: String,
        /// `consoles` as one text for people; [`ConsoleExcerpt::join`] makes it.
        console_excerpt: Option<String>,
        /// The ends of its VMs' consoles.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        consoles: Vec<ConsoleExcerpt>,
        /// Details for reports.
        #[serde(default, skip_serializing_if = "Details::is_empty")]
        details: Details,
    },
    /// A test was not run, or skipped itself.
    TestSkipped {
        /// Its file.
        path: String,
        /// Its name.
        name: String,
        /// Why.
        reason: String,
        /// Its metadata.
        meta: Meta,
        /// How long it ran until then.
        #[serde(default)]
        duration_ns: u64,
        /// Details for reports.
        #[serde(default, skip_serializing_if = "Details::is_empty")]
        details: Details,
    },
    /// A test has failed and is tried again.
    TestRetried {
        /// Its file.
        path: String,
        /// Its name.
        name: String,
        /// The attempt that failed; the first is 1.
        attempt: u32,
        /// Why it failed.
        reason: String,
    },
    /// A named step of a test has ended.
    TestStep {
        /// The test's file.
        path: String,
        /// The test's name.
        name: String,
        /// The step.
        step: Step,
    },
    /// A test has attached something to the report.
    TestAttachment {
        /// The test's file.
        path: String,
        /// The test's name.
        name: String,
        /// The attachment.
        attachment: Attachment,
    },
    /// A VM has booted.
    VmSpawned {
        /// The file it belongs to.
        file: String,
        /// Its name.
        vm_name: String,
        /// What it was made from.
        profile: String,
        /// Guest memory.
        memory_bytes: u64,
        /// Its vsock context id.
        cid: u32,
        /// What it booted from.
        boot: BootKind,
        /// Time until its agent answered.
        boot_ns: u64,
    },
    /// A VM is gone.
    VmShutdown {
        /// The file it belongs to.
        file: String,
        /// Its name.
        vm_name: String,
        /// How long it existed.
        duration_ns: u64,
    },
    /// What the pool has, sent once a second.
    PoolState {
        /// Given out.
        used: Resources,
        /// Still there.
        available: Resources,
    },
    /// A file has its claim.
    ClaimAcquired {
        /// The file.
        path: String,
        /// How much.
        amount: Resources,
    },
    /// A file has given its claim back.
    ClaimReleased {
        /// The file.
        path: String,
        /// How much.
        amount: Resources,
    },
    /// A fixture is being built.
    FixtureBuildStarted {
        /// The fixture.
        path: String,
        /// Why an earlier build cannot be used; `None`: there was none.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        reason: Option<String>,
    },
    /// A fixture's build has ended.
    FixtureBuildDone {
        /// The fixture.
        path: String,
        /// How long it took.
        duration_ns: u64,
        /// What came of it.
        status: BuildStatus,
        /// What it takes on disk; 0 unless it was built.
        snapshot_bytes: u64,
    },
    /// Another file builds the fixture already.
    FixtureBuildWaiting {
        /// The fixture.
        path: String,
        /// Who builds it.
        held_by_file: String,
    },
    /// A fixture was restored from the store.
    FixtureCacheHit {
        /// The fixture.
        path: String,
    },
    /// Something the user should know beside the results of tests.
    Notice(Notice),
}

/// What came of the build of a fixture.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BuildStatus {
    /// The fixture is in the cache.
    Built,
    /// The script failed, or its result could not be kept.
    Failed,
    /// The build was cancelled: the file that needed it has ended.
    Interrupted,
}

/// How a file ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FileStatus {
    /// Every test passed or was skipped.
    Passed,
    /// A test failed, or the file's own code did.
    Failed,
    /// The file's time was up.
    TimedOut,
    /// The harness crashed, or had no thread for it.
    Crashed,
}

/// How a test ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TestStatus {
    /// It passed, or failed as expected.
    Passed,
    /// It failed.
    Failed,
    /// It was not run, or skipped itself.
    Skipped,
}

/// Why a file waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BlockReason {
    /// The pool has too little left.
    PoolFull,
    /// The host is short of memory or processor time.
    PsiPressure,
}

/// What a VM booted from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BootKind {
    /// Kernel and initrd.
    Cold,
    /// A boot template.
    Template,
    /// A snapshot that a test or a fixture made.
    Snapshot,
}

impl BootKind {
    /// `cold`, `template` or `snapshot`.
    pub fn word(self) -> &'static str {
        match self {
            Self::Cold => "cold",
            Self::Template => "template",
            Self::Snapshot => "snapshot",
        }
    }
}

/// A place in the author's code.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Location {
    /// The file, as paths of events are.
    pub file: String,
    /// The line; the first is 1.
    pub line: u32,
    /// The column in characters, where it is known; the first is 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub column: Option<u32>,
}

/// What went wrong in a file outside of any test.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileError {
    /// What.
    pub message: String,
    /// Where, if that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub location: Option<Location>,
    /// The author's frames, innermost first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub traceback: Vec<String>,
}

/// Details of a test that has ended, for reports.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Details {
    /// Where it failed or skipped itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub location: Option<Location>,
    /// The author's frames, innermost first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub traceback: Vec<String>,
    /// What it logged, a line an entry.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub log: Vec<String>,
    /// What the harness adds to a failure, a line an entry: the test's processes, and commands that failed
    /// unnoticed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
    /// Its steps, in the order they ended.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub steps: Vec<Step>,
    /// How often it was run; 0 if it never was, or if that is not known.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub attempts: u32,
}

/// The end of a VM's console when its test failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConsoleExcerpt {
    /// The VM.
    pub vm: String,
    /// The last of its console, as the guest wrote it.
    pub text: String,
    /// Whether the test's `reason` contains the last lines already, as errors about a dead guest do.
    #[serde(default, skip_serializing_if = "is_false")]
    pub in_reason: bool,
}

impl ConsoleExcerpt {
    /// All `consoles` as one text; `None` if there are none. The text of one VM is its own. Of several,
    /// each is indented below a line that names its VM, so that no guest can print such a line.
    pub fn join(consoles: &[Self]) -> Option<String> {
        match consoles {
            [] => None,
            [one] => Some(one.text.clone()),
            many => Some(many.iter().map(Self::section).collect()),
        }
    }

    fn section(&self) -> String {
        let mut section = format!("console of vm `{}`:\n", self.vm);
        for line in self.text.lines() {
            section.push_str("  ");
            section.push_str(line);
            section.push('\n');
        }
        section
    }
}

/// A named, timed part of a test.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Step {
    /// Its name.
    pub name: String,
    /// How long it took.
    pub duration_ns: u64,
    /// Whether it ended without an error.
    pub passed: bool,
}

/// Bytes that a test has attached to the report.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attachment {
    /// Its name.
    pub name: String,
    /// Its content.
    #[serde(with = "serde_bytes")]
    pub content: Vec<u8>,
}

impl Details {
    fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

fn is_false(flag: &bool) -> bool {
    !flag
}

fn is_zero(number: &u32) -> bool {
    *number == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn console(vm: &str, text: &str) -> ConsoleExcerpt {
        ConsoleExcerpt {
            vm: vm.to_owned(),
            text: text.to_owned(),
            in_reason: false,
        }
    }

    #[test]
    fn a_guest_cannot_print_the_heading_of_another_console() {
        let forged = "login:\nconsole of vm `db`:\nall is well";
        let joined = ConsoleExcerpt::join(&[console("web", forged), console("db", "panic")]);
        let joined = joined.unwrap();
        let headings: Vec<&str> = joined.lines().filter(|l| !l.starts_with(' ')).collect();
        assert_eq!(headings, ["console of vm `web`:", "console of vm `db`:"]);
        assert_eq!(
            ConsoleExcerpt::join(&[console("web", forged)]).as_deref(),
            Some(forged)
        );
        assert_eq!(ConsoleExcerpt::join(&[]), None);
    }
}
