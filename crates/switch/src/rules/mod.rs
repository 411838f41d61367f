//! What a test asks for: partitions, isolated ports, and impairments of the whole switch or a part of it.
//!
//! Rules do not touch a frame. [`Fabric`](crate::Fabric) works out from them what holds for each path when
//! they change, so that a frame costs the same whatever the number of rules.

mod impairment;
mod probability;
mod rule_set;
mod scope;

pub use impairment::Impairment;
pub use probability::Probability;
pub use rule_set::Rules;
pub use scope::Scope;
