//! The status of a bridge: counters for tests, and lines for the report of a failed test.

use crate::error::LabError;
use crate::network::bridge::Bridge;
use crate::network::rules::MemberPaths;
use provium_switch::shell::RecentFrame;
use provium_switch::{DropReason, Impairment, PathCounters, PortId, Status};
use provium_units::{format_bit_rate, format_duration};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Members, paths and frames that a report lists at most, each.
const MAX_MEMBERS: usize = 16;
const MAX_PATHS: usize = 12;
const MAX_FRAMES: usize = 12;

/// What has happened on the way from one port of a bridge to another.
#[derive(Debug, Clone, PartialEq)]
pub struct PathReport {
    /// The member that frames come from.
    pub from: String,
    /// The member that they go to.
    pub to: String,
    /// What was counted.
    pub counters: PathCounters,
    /// All impairments that apply, combined.
    pub impairment: Impairment,
    /// Whether a partition or an isolation lets nothing pass.
    pub obstacle: Option<DropReason>,
}

/// Frames that were dropped at a port, which no path has counted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PortDrops {
    /// The member.
    pub member: String,
    /// Frames from it that were dropped before their destination was looked up: it was isolated or disconnected, or
    /// their length is not possible.
    pub at_sender: u64,
    /// Frames that have reached it while it was off, or that it did not read.
    pub at_receiver: u64,
}

/// What a bridge has counted.
#[derive(Debug, Clone, PartialEq)]
pub struct BridgeCounters {
    /// Each directed pair of members.
    pub paths: Vec<PathReport>,
    /// Members at which frames were dropped.
    pub ports: Vec<PortDrops>,
}

impl Bridge {
    /// What has happened on each directed pair of its members since the bridge was made.
    ///
    /// # Errors
    /// When the bridge is closed.
    pub async fn counters(&self) -> Result<BridgeCounters, LabError> {
        let call = "counters()";
        let status = self.0.switch(call)?.status().await;
        let status = status.map_err(|error| self.0.stopped(call, error))?;
        Ok(BridgeCounters {
            paths: paths(&status),
            ports: port_drops(&status),
        })
    }

    /// Members, rules, counters and last frames in a few lines, for the report of a failed test; none where the
    /// bridge is closed.
    pub async fn report(&self) -> Vec<String> {
        let Ok(switch) = self.0.switch("report") else {
            return Vec::new();
        };
        let (Ok(status), Ok(recent)) = (switch.status().await, switch.recent().await) else {
            return vec![format!("{}: its switch has stopped", self.subject())];
        };
        let mut lines = vec![format!("{} ({})", self.subject(), self.subnet())];
        lines.push(format!("  members: {}", self.member_list(&status)));
        if let Ok(impairments) = self.rules().impairments().await {
            lines.extend(impairments.iter().map(|(paths, impairment)| {
                let (paths, what) = (describe_paths(paths), describe_impairment(impairment));
                format!("  impaired, {paths}: {what}")
            }));
        }
        let paths = paths(&status);
        lines.extend(obstacle_line(&paths));
        lines.extend(path_lines(&paths));
        lines.extend(port_drops(&status).iter().take(MAX_PATHS).map(port_line));
        lines.extend(frame_lines(&status, &recent));
        lines
    }

    fn member_list(&self, status: &Status) -> String {
        let entries = self.0.entries();
        let shown = entries.iter().take(MAX_MEMBERS).map(|entry| {
            let member = &entry.member;
            let mut text = format!("{} {}", member.name, self.0.addresses_of(member).host.ipv4);
            let port = status.ports.iter().find(|port| port.id == member.port);
            if port.is_some_and(|port| port.is_isolated) {
                text.push_str(" (isolated)");
            }
            if port.is_some_and(|port| !port.link_is_up) {
                text.push_str(" (disconnected)");
            }
            text
        });
        let shown: Vec<_> = shown.collect();
        let more = entries.len().saturating_sub(MAX_MEMBERS);
        match (shown.is_empty(), more) {
            (true, _) => "none".to_owned(),
            (false, 0) => shown.join(", "),
            (false, more) => format!("{} and {more} more", shown.join(", ")),
        }
    }
}

fn paths(status: &Status) -> Vec<PathReport> {
    let paths = status.paths.iter().map(|path| PathReport {
        from: name_of(status, path.from),
        to: name_of(status, path.to),
        counters: path.counters,
        impairment: path.impairment,
        obstacle: path.obstacle,
    });
    paths.collect()
}

fn port_drops(status: &Status) -> Vec<PortDrops> {
    let drops = status.ports.iter().map(|port| PortDrops {
        member: port.name.clone(),
        at_sender: port.counters.tx_dropped,
        at_receiver: port.counters.rx_dropped,
    });
    let drops = drops.filter(|port| port.at_sender + port.at_receiver > 0);
    drops.collect()
}

fn port_line(drops: &PortDrops) -> String {
    let mut parts = Vec::new();
    if drops.at_sender > 0 {
        let count = drops.at_sender;
        parts.push(format!(
            "{count} dropped as they came from it (isolated, disconnected, or of an invalid length)"
        ));
    }
    if drops.at_receiver > 0 {
        let count = drops.at_receiver;
        parts.push(format!(
            "{count} dropped since it was off or did not read them"
        ));
    }
    format!("  {}: {}", drops.member, parts.join(", "))
}

fn name_of(status: &Status, id: PortId) -> String {
    let port = status.ports.iter().find(|port| port.id == id);
    port.map_or_else(|| "(removed)".to_owned(), |port| port.name.clone())
}

/// `from a to b`, as authors write it.
fn describe_paths(paths: &MemberPaths) -> String {
    match (&paths.from, &paths.to) {
        (None, None) => "all".to_owned(),
        (Some(from), None) => format!("from {from}"),
        (None, Some(to)) => format!("to {to}"),
        (Some(from), Some(to)) => format!("{from} → {to}"),
    }
}

fn describe_impairment(impairment: &Impairment) -> String {
    let percent = |share: provium_switch::Probability| format!("{:.4}", share.as_percent());
    let percent = |share| {
        let text = percent(share);
        format!("{} %", text.trim_end_matches('0').trim_end_matches('.'))
    };
    let fields = [
        ("latency", impairment.latency.map(format_duration)),
        ("jitter", impairment.jitter.map(format_duration)),
        ("loss", impairment.loss.map(percent)),
        ("burst", impairment.burst.map(|burst| burst.to_string())),
        ("duplicate", impairment.duplicate.map(percent)),
        ("reorder", impairment.reorder.map(percent)),
        ("corrupt", impairment.corrupt.map(percent)),
        ("rate", impairment.rate.map(format_bit_rate)),
        (
            "queue",
            impairment.queue.map(|queue| format!("{queue} bytes")),
        ),
    ];
    let fields = fields
        .into_iter()
        .filter_map(|(name, value)| Some(format!("{name} {}", value?)));
    fields.collect::<Vec<_>>().join(", ")
}

/// The pairs that are partitioned.
fn obstacle_line(paths: &[PathReport]) -> Option<String> {
    let cut = |path: &&PathReport| path.obstacle == Some(DropReason::Partition);
    let cut: Vec<_> = paths.iter().filter(cut).collect();
    let shown = cut.iter().take(MAX_PATHS);
    let shown = shown.map(|path| format!("{} → {}", path.from, path.to));
    let mut shown: Vec<_> = shown.collect();
    if cut.len() > shown.len() {
        shown.push(format!("and {} more", cut.len() - shown.len()));
    }
    (!shown.is_empty()).then(|| format!("  partitioned: {}", shown.join(", ")))
}

/// What was counted: paths that dropped frames first.
fn path_lines(paths: &[PathReport]) -> Vec<String> {
    let mut used: Vec<_> = paths
        .iter()
        .filter(|path| path.counters.entered > 0)
        .collect();
    used.sort_by_key(|path| path.counters.dropped() == 0);
    let mut lines: Vec<String> = used
        .iter()
        .take(MAX_PATHS)
        .map(|path| format!("  {}", describe_counters(path)))
        .collect();
    if used.len() > MAX_PATHS {
        lines.push(format!("  … {} more paths", used.len() - MAX_PATHS));
    }
    lines
}

fn describe_counters(path: &PathReport) -> String {
    let counters = &path.counters;
    let mut text = format!(
        "{} → {}: {} delivered",
        path.from, path.to, counters.delivered
    );
    let reasons = counters
        .drops()
        .map(|(reason, count)| format!("{} {count}", reason.name()));
    let reasons: Vec<_> = reasons.collect();
    if !reasons.is_empty() {
        let dropped = counters.dropped();
        text.push_str(&format!(", {dropped} dropped ({})", reasons.join(", ")));
    }
    for (count, what) in [
        (counters.delayed, "delayed"),
        (counters.duplicated, "duplicated"),
        (counters.corrupted, "corrupted"),
        (counters.reordered, "reordered"),
    ] {
        if count > 0 {
            text.push_str(&format!(", {count} {what}"));
        }
    }
    text
}

fn frame_lines(status: &Status, recent: &[RecentFrame]) -> Vec<String> {
    let shown = &recent[recent.len().saturating_sub(MAX_FRAMES)..];
    if shown.is_empty() {
        return Vec::new();
    }
    // A clock before 1970 shows in the ages.
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    let now = now.unwrap_or_default();
    let heading = "  last frames:".to_owned();
    let lines = shown.iter().map(|frame| {
        let to = frame.to.map_or_else(
            || "(unknown)".to_owned(),
            |to| match frame.others {
                0 => name_of(status, to),
                others => format!("{} and {others} more", name_of(status, to)),
            },
        );
        format!(
            "    {} s ago, {} → {to}, {}: {}",
            seconds(now.saturating_sub(frame.time)),
            name_of(status, frame.from),
            frame.outcome,
            frame.summary()
        )
    });
    std::iter::once(heading).chain(lines).collect()
}

fn seconds(age: Duration) -> String {
    format!("{:.3}", age.as_secs_f64())
}

#[cfg(test)]
mod tests {
    use super::*;
    use provium_switch::Probability;

    #[test]
    fn impairments_are_described_in_the_units_of_the_calls() {
        let impairment = Impairment {
            latency: Some(Duration::from_millis(20)),
            loss: Probability::percent(2.5),
            burst: Some(3.0),
            rate: Some(10_000_000),
            queue: Some(4096),
            ..Impairment::default()
        };
        assert_eq!(
            describe_impairment(&impairment),
            "latency 20ms, loss 2.5 %, burst 3, rate 10 Mbit/s, queue 4096 bytes"
        );
    }

    #[test]
    fn a_report_shows_paths_that_drop_first_and_not_all() {
        let path = |from: usize, entered| {
            let mut counters = PathCounters::default();
            (counters.entered, counters.delivered) = (entered, entered);
            PathReport {
                from: format!("m{from}"),
                to: "x".to_owned(),
                counters,
                impairment: Impairment::default(),
                obstacle: (from < 2).then_some(DropReason::Partition),
            }
        };
        let paths: Vec<_> = (0..MAX_PATHS + 3)
            .map(|from| path(from, u64::from(from != 0)))
            .collect();
        let lines = path_lines(&paths);
        assert_eq!(lines.len(), MAX_PATHS + 1);
        assert_eq!(lines[0], "  m1 → x: 1 delivered");
        assert_eq!(lines[MAX_PATHS], "  … 2 more paths");
        let line = obstacle_line(&paths);
        assert_eq!(line.as_deref(), Some("  partitioned: m0 → x, m1 → x"));
    }
}
