//! The bridges of a failed test: members, rules, counters and last frames.

use provium_lab::{Bridge, Lab, Scope};
use std::collections::BTreeSet;
use std::time::Duration;

/// Bridges that a report shows at most.
const MAX_BRIDGES: usize = 8;
/// Time that a bridge has to tell its state. It takes microseconds, unless the host has no time for it.
const PATIENCE: Duration = Duration::from_secs(2);

/// The bridges that a test in `scope` could see, as lines; none without a bridge.
pub(super) async fn lines(lab: &Lab, scope: &Scope) -> Vec<String> {
    let bridges = visible(lab, scope);
    let mut lines = Vec::new();
    for bridge in bridges.iter().take(MAX_BRIDGES) {
        match tokio::time::timeout(PATIENCE, bridge.report()).await {
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

fn visible(lab: &Lab, scope: &Scope) -> Vec<Bridge> {
    let mut seen = BTreeSet::new();
    let scopes = std::iter::successors(Some(scope), |scope| scope.parent());
    let bridges = scopes.flat_map(|scope| lab.all_bridges(scope));
    bridges.filter(|bridge| seen.insert(bridge.id())).collect()
}
