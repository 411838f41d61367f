//! stub
use crate::export::Export;
use camino::Utf8Path;
use std::io;
use std::sync::Arc;

/// Stub.
#[derive(Debug)]
pub struct DiskService;
/// Stub.
#[derive(Debug, Clone, Copy)]
pub enum Pace {
    /// Stub.
    Normal,
    /// Stub.
    Hurried,
    /// Stub.
    Paused,
}
impl DiskService {
    /// Stub.
    pub fn start(_export: Arc<dyn Export>, _name: &str, _socket: &Utf8Path) -> io::Result<Self> {
        Ok(Self)
    }
    /// Stub.
    pub fn set_pace(&self, _pace: Pace) {}
}
