//! A state that a power loss could leave, as a test sees it.

use crate::error::LabError;
use camino::Utf8Path;
use provium_disk::{CrashState, DiskError};
use std::sync::Arc;

/// The content of a disk in one crash state.
#[derive(Debug, Clone)]
pub struct CrashImage {
    number: usize,
    state: Arc<CrashState>,
}

impl CrashImage {
    pub(crate) fn new(number: usize, state: CrashState) -> Self {
        let state = Arc::new(state);
        Self { number, state }
    }

    /// Its place in the order of the states, from 1 on.
    pub fn number(&self) -> usize {
        self.number
    }

    /// When the power was lost, and what was lost: `after 12 of 40 writes and 3 flushes, without write 9 (sector 3)`.
    pub fn describe(&self) -> &str {
        &self.state.description
    }

    /// Its size, bytes.
    pub fn size(&self) -> u64 {
        self.state.disk.size()
    }

    /// Reads sectors of 512 bytes.
    ///
    /// # Errors
    /// Beyond its end, or when the host cannot read.
    pub fn read_sectors(&self, first: u64, count: u64) -> Result<Vec<u8>, LabError> {
        let read = self.state.disk.read_sectors(first, count);
        read.map_err(|error| self.failed("read_sectors()", error))
    }

    /// Writes its whole content to a sparse file of the host.
    ///
    /// # Errors
    /// When the host cannot write it.
    pub fn save(&self, path: &Utf8Path) -> Result<(), LabError> {
        let exported = self.state.disk.export(path);
        let saved = exported.and_then(|image| image.link());
        saved.map_err(|error| self.failed("save()", error))
    }

    /// Its name in messages.
    pub fn subject(&self) -> String {
        format!("crash state {}", self.number)
    }

    pub(crate) fn disk(&self) -> &provium_disk::Disk {
        &self.state.disk
    }

    fn failed(&self, call: &str, error: DiskError) -> LabError {
        LabError::host(self.subject(), call, error)
    }
}
