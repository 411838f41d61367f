//! Directory trees, as streams of [records](provium_protocol::tree).

use crate::call::{Call, Input};
use crate::error::CallError;
use crate::lane::LaneHandle;
use crate::stream::GuestStream;
use provium_protocol::{Op, Reply};

/// A tree on its way to the guest. Dropping it ends the operation there; what was created stays.
#[derive(Debug)]
pub struct TreeUpload {
    call: Call,
    input: Input,
}

impl LaneHandle {
    /// The records of a directory of the guest.
    pub fn pack_tree(&self, path: &[u8]) -> GuestStream {
        let path = path.to_vec();
        GuestStream::new(self.channel().open(self.lane(), &Op::PackTree { path }))
    }

    /// Creates in a directory of the guest what records say.
    pub fn unpack_tree(&self, path: &[u8]) -> TreeUpload {
        let path = path.to_vec();
        let call = self.channel().open(self.lane(), &Op::UnpackTree { path });
        let input = call.input();
        TreeUpload { call, input }
    }
}

impl TreeUpload {
    /// Sends records, as fast as the guest takes them; false when it takes no more, which
    /// [`TreeUpload::finish`] explains.
    ///
    /// # Errors
    /// The end of the session.
    pub async fn send(&self, records: &[u8]) -> Result<bool, CallError> {
        match self.input.write_all(records).await {
            Ok(()) => Ok(true),
            Err(CallError::InputClosed) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Ends the records and waits until all is created.
    ///
    /// # Errors
    /// What the guest answers, and the end of the session.
    pub async fn finish(mut self) -> Result<(), CallError> {
        self.input.finish();
        match self.call.reply().await? {
            Reply::Done => Ok(()),
            _ => Err(CallError::Unexpected("UnpackTree")),
        }
    }
}
