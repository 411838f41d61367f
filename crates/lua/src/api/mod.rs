//! What authors call: the objects of the API, and the globals beside them.

pub(crate) mod globals;
pub(crate) mod objects;
