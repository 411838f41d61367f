//! Streams that a call in the guest feeds: tails of files, descriptors.

use crate::guest::context::CallContext;
use crate::guest::stream::{ByteSource, ByteStream, ReadFuture, Site, StreamKind, StreamParts};
use crate::resource::Scope;
use provium_guest::{FileChanges, GuestStream};
use provium_protocol::ErrorKind;
use std::sync::Arc;

/// Opens a stream of the bytes of a call in the guest.
pub(crate) fn open(
    context: CallContext,
    scope: &Scope,
    guest: GuestStream,
    subject: String,
    site: Site,
) -> ByteStream {
    let open = Arc::clone(context.target.vm().open_streams());
    let worker = context.target.worker().cloned();
    let source = Box::new(CallSource { guest, context });
    let stream = ByteStream::open(
        scope,
        StreamParts {
            kind: StreamKind::Tail,
            subject,
            site,
            source,
            open,
        },
    );
    if let Some(worker) = worker {
        worker.adopt_tail(&stream);
    }
    stream
}

/// Bytes of a call in the guest; dropping it ends the call there.
struct CallSource {
    guest: GuestStream,
    context: CallContext,
}

impl ByteSource for CallSource {
    fn read(&mut self) -> ReadFuture<'_> {
        Box::pin(async {
            match self.guest.next().await {
                // The file that it reads was closed.
                Err(error) if error.kind() == Some(ErrorKind::Cancelled) => Ok(None),
                bytes => self.context.explain(bytes).await,
            }
        })
    }

    fn changes(&self) -> Option<FileChanges> {
        Some(self.guest.changes())
    }
}
