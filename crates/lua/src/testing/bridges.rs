//! The bridges of a test: members, rules, counters and last frames if it has failed, else what was dropped.

use provium_lab::{Bridge, BridgeCounters, Lab, ResourceId, Scope};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// Bridges that a report shows at most.
const MAX_BRIDGES: usize = 8;
/// How long the report of a bridge may take. It takes microseconds unless the host is overloaded.
const REPORT_TIMEOUT: Duration = Duration::from_secs(2);

/// The bridges that a test in `scope` could see, as lines; none without a bridge.
pub(super) async fn lines(lab: &Lab, scope: &Scope) -> Vec<String> {
    let bridges = visible(lab, scope);
    let mut lines = Vec::new();
    for bridge in bridges.iter().take(MAX_BRIDGES) {
        match tokio::time::timeout(REPORT_TIMEOUT, bridge.report()).await {
            Ok(report) => lines.extend(report),
            Err(_) => lines.push(format!("{}: does not answer", bridge.subject())),
        }
    }
    if bridges.len() > MAX_BRIDGES {
        let more = bridges.len() - MAX_BRIDGES;
        lines.push(format!("… {more} more bridges are not shown"));
    }
    lines
}

/// What the bridges that a test in `scope` can see have counted; one that does not answer is left out.
pub(super) async fn counters(lab: &Lab, scope: &Scope) -> Counters {
    let mut counted = Counters::new();
    for bridge in visible(lab, scope) {
        let counters = tokio::time::timeout(REPORT_TIMEOUT, bridge.counters()).await;
        if let Ok(Ok(counters)) = counters {
            counted.insert(bridge.id(), (bridge.subject(), counters));
        }
    }
    counted
}

/// By bridge: its name in messages, and what it has counted.
pub(super) type Counters = BTreeMap<ResourceId, (String, BridgeCounters)>;

/// A line for each reason for which frames were dropped between two counts.
pub(super) fn drop_lines(before: &Counters, after: &Counters) -> Vec<String> {
    let mut lines = Vec::new();
    for (id, (subject, counters)) in after {
        let before = before.get(id).map(|(_, counters)| counters);
        for path in &counters.paths {
            let earlier = before.into_iter().flat_map(|counters| &counters.paths);
            let earlier = earlier
                .filter(|earlier| earlier.from == path.from && earlier.to == path.to)
                .map(|earlier| earlier.counters)
                .next()
                .unwrap_or_default();
            for (reason, count) in path.counters.drops() {
                let count = count.saturating_sub(earlier.dropped_for(reason));
                if count > 0 {
                    let (from, to, why) = (&path.from, &path.to, reason.name());
                    lines.push(format!("{subject}: {from} → {to}: {count} dropped: {why}"));
                }
            }
        }
    }
    lines
}

fn visible(lab: &Lab, scope: &Scope) -> Vec<Bridge> {
    let mut seen = BTreeSet::new();
    let scopes = std::iter::successors(Some(scope), |scope| scope.parent());
    let bridges = scopes.flat_map(|scope| lab.all_bridges(scope));
    bridges.filter(|bridge| seen.insert(bridge.id())).collect()
}
