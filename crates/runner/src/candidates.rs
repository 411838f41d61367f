//! The files of a plan, in the order in which they are to start, with what is known of each: what its source
//! says, and what earlier runs found out.
//!
//! It reports each file. It starts none, and knows nothing of the pool.

use crate::claim;
use crate::fixture_refs::fixture_refs;
use crate::history::History;
use crate::plan::Plan;
use crate::queue::{Candidate, Queue};
use provium_events::{Event, Resources, Sink};
use sha2::{Digest as _, Sha256};

/// The plan's files.
pub(crate) fn in_order(plan: &Plan, history: &History, sink: &Sink) -> Queue {
    let mut candidates = Vec::new();
    for (index, file) in plan.files.iter().enumerate() {
        // A file that cannot be read fails when it runs, with its own words.
        let source = std::fs::read_to_string(&file.path).unwrap_or_default();
        let declared_claim = claim::declared(&source);
        sink.emit(Event::FileDiscovered {
            path: file.display.clone(),
            fixture_refs: fixture_refs(&source),
            declared_claim,
        });
        let known = history.of(&file.path);
        // A file that held nothing may have come to nothing: it counts like an unknown one.
        let held = known.map(|known| known.held);
        let held = held.filter(|held| *held != Resources::default());
        let usual = held.unwrap_or(plan.reservation);
        candidates.push(Candidate {
            index,
            reservation: declared_claim.map_or(usual, |claim| claim::or_usual(claim, usual)),
            duration: known.map(|known| known.duration),
            source_bytes: source.len(),
        });
    }
    match plan.shuffle {
        Some(seed) => Queue::in_order(shuffled(candidates, seed, plan)),
        None => Queue::new(candidates),
    }
}

/// Puts files in an order that depends on the seed and on their names alone.
fn shuffled(mut candidates: Vec<Candidate>, seed: u64, plan: &Plan) -> Vec<Candidate> {
    candidates.sort_by_cached_key(|candidate| {
        let name = plan
            .files
            .get(candidate.index)
            .map(|file| file.display.as_str());
        let digest = Sha256::new_with_prefix(seed.to_le_bytes());
        digest.chain_update(name.unwrap_or_default()).finalize()
    });
    candidates
}
