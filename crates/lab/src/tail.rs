//! Streams that a call in the guest feeds: tails of files, descriptors.

use crate::error::LabError;
use crate::scope::Scope;
use crate::stream::{ByteSource, ByteStream, Reading, Site, StreamKind, StreamParts};
use crate::line::Line;
use provium_guest::Call;
use provium_protocol::Channel;
use provium_protocol::op::Op;
use std::sync::Arc;

/// Opens the call and puts a stream over its output.
pub(crate) fn open(line: Line, scope: &Scope, op: Op, subject: String, site: Site) -> ByteStream {
    let vm = line.surface().vm();
    let open_count = Some(Arc::clone(&vm.0.open_streams));
    let call = line.lane.open(op);
    let source = Box::new(CallOutput { call, line });
    ByteStream::open(scope, StreamParts { kind: StreamKind::Tail, subject, site, source, open_count })
}

/// A call whose output is read; dropping it cancels it in the guest.
struct CallOutput {
    call: Call,
    line: Line,
}

impl ByteSource for CallOutput {
    fn read(&mut self) -> Reading<'_> {
        Box::pin(async {
            if let Some(bytes) = self.call.read(Channel::Output).await {
                return Ok(Some(bytes));
            }
            let reply = self.call.reply().await;
            self.line.checked(reply).await?;
            Ok::<_, LabError>(None)
        })
    }
}
