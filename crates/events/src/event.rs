//! The events themselves.
//!
//! A consumer may rely on this order: `run_started` is first and `run_completed` last; every file is
//! discovered before any is dispatched; a file is dispatched at most once and completed exactly
//! once; a test is started once and then passed, failed, skipped or interrupted, or it is not run;
//! claims and builds pair.
//!
//! Paths are relative to the folder in which the run was started; those outside of it are absolute.
//! Durations are nanoseconds.

use crate::details::{Attachment, ConsoleExcerpt, Details, FileError, Location, Step};
use crate::notice::Notice;
use crate::resources::Resources;
use crate::status::{BlockReason, BootKind, BuildStatus, FileStatus};
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
        /// Tests that were interrupted by the end of the run.
        #[serde(default)]
        interrupted: u64,
        /// Tests that did not start.
        #[serde(default)]
        not_run: u64,
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
    /// A test was excluded, or skipped itself.
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
    /// A test had started when the user ended the run.
    TestInterrupted {
        /// Its file.
        path: String,
        /// Its name.
        name: String,
        /// How long it ran until then.
        duration_ns: u64,
        /// Its metadata.
        meta: Meta,
        /// Details for reports.
        #[serde(default, skip_serializing_if = "Details::is_empty")]
        details: Details,
    },
    /// A declared test was selected, but did not start: its file ended before.
    TestNotRun {
        /// Its file.
        path: String,
        /// Its name.
        name: String,
        /// Why.
        reason: String,
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
        /// How long the attempt took.
        #[serde(default)]
        duration_ns: u64,
        /// Where it failed.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        location: Option<Location>,
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
    /// A file has used the run's seed for the first time.
    SeedUsed {
        /// The file.
        path: String,
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
