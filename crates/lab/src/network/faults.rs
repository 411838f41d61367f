//! Faults for a time: impairments, partitions and isolations that are undone when what they are for has ended.
//!
//! They are a layer of the bridge's rules. While they last they are combined with the other rules, as those of
//! different members are; their end removes the layer and changes nothing else, so that what others have set
//! meanwhile stays. [`BridgeRules::reset`] also ends them.

use crate::error::LabError;
use crate::network::bridge::Bridge;
use crate::network::rules::{BridgeRules, MemberPaths, Partition};
use crate::resource::ResourceId;
use provium_switch::{Impairment, Rules};

/// What is to happen on a bridge for a time.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Faults {
    /// What the impairment applies to.
    pub paths: MemberPaths,
    /// The impairment.
    pub impairment: Impairment,
    /// What is cut.
    pub partitions: Vec<Partition>,
    /// Groups that are cut off from each other; none if empty.
    pub groups: Vec<Vec<String>>,
    /// Members that are isolated.
    pub isolated: Vec<String>,
}

/// Faults that are in force. Dropping it ends them soon after.
#[derive(Debug)]
pub struct ActiveFaults {
    bridge: Bridge,
    layer: u64,
    has_ended: bool,
}

impl BridgeRules<'_> {
    /// Makes the faults happen, until the result is dropped; `call` is what the author called.
    ///
    /// # Errors
    /// When the bridge is closed, or one that is named is not a member.
    pub async fn begin(self, call: &str, faults: &Faults) -> Result<ActiveFaults, LabError> {
        let bridge = self.bridge();
        let mut rules = Rules::default();
        rules.impair(self.paths(call, &faults.paths)?, faults.impairment);
        for partition in &faults.partitions {
            for (from, to) in self.directed(call, partition)? {
                rules.partition(from, to);
            }
        }
        rules.partition_groups(&self.groups(call, &faults.groups)?);
        for member in &faults.isolated {
            rules.isolate(bridge.0.port_of(call, member)?);
        }
        let layer = ResourceId::next().number();
        // Before they begin: a caller that is dropped then ends them.
        let active = ActiveFaults {
            bridge: bridge.clone(),
            layer,
            has_ended: false,
        };
        self.change(call, move |now| now.add_layer(layer, rules))
            .await?;
        Ok(active)
    }
}

impl ActiveFaults {
    /// Ends them; they have no effect any more when this returns. Nothing is left to end on a bridge that is closed.
    pub async fn end(mut self) {
        let layer = self.layer;
        let rules = self.bridge.rules();
        let ended = rules.change("during()", move |now| now.remove_layer(layer));
        let _ = ended.await;
        self.has_ended = true;
    }
}

impl Drop for ActiveFaults {
    fn drop(&mut self) {
        let layer = self.layer;
        if !self.has_ended
            && let Ok(switch) = self.bridge.0.switch("during()")
        {
            // A switch that has stopped has no rules.
            let _ = switch.change_later(move |fabric, output| {
                fabric.change_rules(output, |now| now.remove_layer(layer));
            });
        }
    }
}
