//! Takes a disk back to a mark of its log.

use crate::disk::Disk;
use crate::error::DiskError;
use crate::log::LogMark;
use crate::state::State;
use std::io;

impl Disk {
    /// Undoes all that was written since the mark, flushed or not. What was volatile at the mark, and was flushed
    /// since, stays durable. Faults and counts do not change.
    ///
    /// # Errors
    /// The log is not recorded, or does not have all since the mark; the host cannot write the image.
    pub fn roll_back(&self, mark: LogMark) -> Result<(), DiskError> {
        let mut state = self.0.state.write();
        let log = state.log.ok_or(DiskError::NoLog)?;
        state.check_mark(mark)?;
        if log.lacks_after(mark.0) {
            return Err(DiskError::MarkLost { mark: mark.0 });
        }
        state.roll_back(mark.0).map_err(DiskError::io("write"))
    }
}

impl State {
    fn roll_back(&mut self, mark: u64) -> io::Result<()> {
        let at = (self.records).partition_point(|record| record.sequence <= mark);
        let undone = self.records.split_off(at);
        for record in undone.iter().rev() {
            self.held -= record.held;
            self.layers.map.set(record.span.first_block(), &record.old);
        }
        self.flushed = self.flushed.min(mark);
        self.count_unflushed();
        // The blocks may have data of earlier writes that are volatile.
        self.is_image_ahead = self.unflushed.writes > 0;
        let written_back = self.write_back_spans(undone.iter().map(|record| record.span));
        for record in &undone {
            self.layers.release(&record.new, false);
        }
        written_back
    }
}
