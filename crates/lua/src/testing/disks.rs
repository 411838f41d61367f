//! The disks of a failed test: those with faults, with writes that are not durable yet, or with trouble on the host.

use crate::engine::test_file::TestFileState;
use provium_events::{Notice, NoticeSubject, counted};
use provium_lab::{Disk, DiskStats, HostFailures, Lab, Scope, Vm};
use std::collections::BTreeSet;

/// Disks that a report shows at most.
const MAX_DISKS: usize = 8;

/// Faults of a disk that a report shows at most.
const MAX_FAULTS: usize = 8;

/// What follows from a lost connection.
const UNTIL: &str = "The guest's commands fail until the VM boots or is reset";

/// The disks that a test in `scope` could see and that do not work as new ones, as lines; none without such a disk.
pub(super) fn lines(lab: &Lab, scope: &Scope) -> Vec<String> {
    let reports = visible(lab, scope)
        .into_iter()
        .flat_map(|vm| vm.disks().known());
    let reports: Vec<Vec<String>> = reports.filter_map(|disk| report(&disk)).collect();
    let mut lines: Vec<String> = reports.iter().take(MAX_DISKS).flatten().cloned().collect();
    if reports.len() > MAX_DISKS {
        let more = reports.len() - MAX_DISKS;
        lines.push(format!("… {more} more disks are not shown"));
    }
    lines
}

/// The disks that a test in `scope` can see, and to which QEMU has lost its connection.
pub(super) fn lost(lab: &Lab, scope: &Scope) -> BTreeSet<String> {
    let disks = visible(lab, scope).into_iter();
    let disks = disks.flat_map(|vm| vm.disks().known());
    let lost = disks.filter(|disk| disk.lost_connection().is_some());
    lost.map(|disk| disk.subject()).collect()
}

/// Why disks that a test in `scope` could see did not have the content that they should have had: a test that has
/// passed with them has shown nothing.
pub(super) fn changed_images(lab: &Lab, scope: &Scope) -> Vec<String> {
    let disks = visible(lab, scope).into_iter();
    let disks = disks.flat_map(|vm| vm.disks().known());
    disks.filter_map(|disk| disk.changed_image()).collect()
}

/// Warns of disks to which QEMU has lost its connection in a test that has passed, and so has no report.
pub(super) fn warn_of_lost(state: &TestFileState, scope: &Scope, before: &BTreeSet<String>) {
    for subject in lost(&state.lab, scope).difference(before) {
        let text = format!("{subject}: QEMU's connection to it is lost. {UNTIL}");
        let notice = Notice::warning(NoticeSubject::Guest, text);
        let sink = state.lab.environment().sink();
        sink.notify(notice.for_file(&state.display));
    }
}

/// The lines of a disk; `None` where there is nothing to say.
fn report(disk: &Disk) -> Option<Vec<String>> {
    let (faults, stats) = (disk.faults().ok()?, disk.stats().ok()?);
    let mut lines = vec![format!("{}: {}", disk.subject(), counts(&stats))];
    let is_off = !disk.is_on();
    if is_off {
        lines.push("  its power is cut".to_owned());
    }
    let host = disk.host_failures();
    if let Some(HostFailures { count, first }) = &host {
        let commands = counted(*count, "command");
        lines.push(format!(
            "  the host could not carry out {commands}, the first {first}"
        ));
    }
    let lost = disk.lost_connection();
    if let Some(why) = &lost {
        lines.push(format!("  QEMU's connection to it is lost: {why}. {UNTIL}"));
    }
    for (_, rule, hits) in faults.iter().take(MAX_FAULTS) {
        lines.push(format!("  fault: {rule}: acted {}", counted(*hits, "time")));
    }
    if faults.len() > MAX_FAULTS {
        let more = faults.len() - MAX_FAULTS;
        lines.push(format!("  … {more} more faults are not shown"));
    }
    // A running guest always writes to its root.
    let is_unflushed = stats.unflushed_writes > 0 && !disk.is_root();
    let is_in_trouble = host.is_some() || lost.is_some();
    let is_notable = is_off || !faults.is_empty() || is_unflushed || is_in_trouble;
    is_notable.then_some(lines)
}

fn counts(stats: &DiskStats) -> String {
    let DiskStats {
        reads,
        writes,
        flushes,
        failed,
        unflushed_writes,
        unflushed_bytes,
        ..
    } = stats;
    let mut text = format!(
        "{}, {}, {flushes} {}",
        counted(*reads, "read"),
        counted(*writes, "write"),
        if *flushes == 1 { "flush" } else { "flushes" }
    );
    if *failed > 0 {
        text.push_str(&format!(", {failed} failed"));
    }
    if *unflushed_writes > 0 {
        let writes = counted(*unflushed_writes, "write");
        text.push_str(&format!(", {writes} unflushed ({unflushed_bytes} bytes)"));
    }
    text
}

/// The VMs that a test in `scope` can see.
fn visible(lab: &Lab, scope: &Scope) -> Vec<Vm> {
    let mut seen = BTreeSet::new();
    let scopes = std::iter::successors(Some(scope), |scope| scope.parent());
    let vms = scopes.flat_map(|scope| lab.all_vms(scope));
    vms.filter(|vm| seen.insert(vm.id())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_of_nothing_are_left_out_where_that_is_usual() {
        let stats = DiskStats {
            reads: 1,
            flushes: 1,
            ..DiskStats::default()
        };
        assert_eq!(counts(&stats), "1 read, 0 writes, 1 flush");
        let stats = DiskStats {
            writes: 2,
            failed: 3,
            unflushed_writes: 1,
            unflushed_bytes: 512,
            ..stats
        };
        assert_eq!(
            counts(&stats),
            "1 read, 2 writes, 1 flush, 3 failed, 1 write unflushed (512 bytes)"
        );
    }
}
