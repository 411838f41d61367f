//! Files that stay open in a guest: descriptors of the raw process, or of a worker.

use crate::error::LabError;
use crate::guest::context::CallContext;
use crate::guest::describe::quoted;
use crate::guest::stream::{ByteStream, Site};
use crate::guest::syscall::syscall;
use crate::guest::tail;
use crate::guest::target::Target;
use crate::lock::lock;
use crate::resource::{
    Close, CloseFuture, CloseOrder, GuestKey, HandleEpoch, Registration, ResourceId, Scope,
};
use provium_guest::CallError;
use provium_protocol::Descriptor;
use provium_protocol::message::SyscallResult;
use provium_protocol::op::{CheckFd, CloseFd, SeekFd, Syscall, Whence};
use std::fmt;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, Weak};

/// Longest single read that the wire allows, bytes.
const LONGEST_READ: usize = 1024 * 1024;

/// How a file is opened; at least one of read, write and append.
#[derive(Debug, Clone, Copy, Default)]
pub struct OpenMode {
    /// For reading.
    pub read: bool,
    /// For writing.
    pub write: bool,
    /// Make it if it is not there.
    pub create: bool,
    /// Empty it.
    pub truncate: bool,
    /// Write at its end.
    pub append: bool,
    /// It must not be there yet.
    pub exclusive: bool,
    /// Permission bits of a new file, less umask; else `0o644`.
    pub perm: Option<u32>,
}

impl OpenMode {
    /// The flags of `open(2)`.
    pub(crate) fn flags(self) -> Result<i32, &'static str> {
        let writing = self.write || self.append;
        let access = match (self.read, writing) {
            (false, false) => return Err("no access mode: give `read`, `write` or `append`"),
            (true, false) => 0,
            (false, true) => 0o1,
            (true, true) => 0o2,
        };
        if self.truncate && !writing {
            return Err("`truncate` needs `write`");
        }
        let exclusive = if self.exclusive { 0o300 } else { 0 };
        let create = if self.create { 0o100 } else { 0 };
        let truncate = if self.truncate { 0o1000 } else { 0 };
        let append = if self.append { 0o2000 } else { 0 };
        Ok(access | exclusive | create | truncate | append)
    }

    pub(crate) fn perm(self) -> u32 {
        self.perm.unwrap_or(0o644)
    }
}

/// An open file.
#[derive(Clone)]
pub struct File(Arc<Inner>);

struct Inner {
    id: ResourceId,
    context: CallContext,
    path: Vec<u8>,
    fd: Descriptor,
    /// When it was closed. It is open again if the VM is restored to a time before that.
    closed: Mutex<Option<HandleEpoch>>,
    place: Registration,
}

impl File {
    pub(crate) fn open(context: &CallContext, scope: &Scope, path: &[u8], fd: Descriptor) -> Self {
        let id = ResourceId::next();
        let open_files = context.target.vm().open_files();
        open_files.fetch_add(1, Ordering::Relaxed);
        let file = Self(Arc::new(Inner {
            id,
            context: context.clone(),
            path: path.to_vec(),
            fd,
            closed: Mutex::default(),
            place: Registration::default(),
        }));
        file.0
            .place
            .take(scope, (CloseOrder::File, id), Arc::new(file.clone()));
        file
    }

    /// The same file in a clone of its VM.
    pub(crate) fn rebind(&self, target: Target) -> Self {
        let closed = *lock(&self.0.closed);
        // What a worker had open went with it.
        let closed = closed.or_else(|| target.why_gone().map(|_| target.epoch()));
        Self(Arc::new(Inner {
            id: self.id(),
            context: self.0.context.rebind(target),
            path: self.0.path.clone(),
            fd: self.0.fd,
            closed: Mutex::new(closed),
            place: Registration::default(),
        }))
    }

    /// The VM or worker whose process has it open.
    pub fn target(&self) -> &Target {
        &self.0.context.target
    }

    /// The number of the resource, which its clones have, too.
    pub fn id(&self) -> ResourceId {
        self.0.id
    }

    /// Its path, as it was opened.
    pub fn path(&self) -> &[u8] {
        &self.0.path
    }

    /// Its name in messages.
    pub fn subject(&self) -> String {
        format!(
            "file {} of {}",
            quoted(&self.0.path),
            self.target().subject()
        )
    }

    /// Its descriptor number in the guest; 0 once it is closed, or its process has ended.
    pub async fn fd(&self) -> i32 {
        match self.context("fd()") {
            Ok(context) if context.lane.call(CheckFd { fd: self.0.fd }).await.is_ok() => {
                self.0.fd.number
            }
            _ => 0,
        }
    }

    /// Its descriptor number, for a call on `of`; an error if it is not open, or is another VM's.
    pub async fn number_for(&self, call: &str, of: &Target) -> Result<i32, LabError> {
        let context = self.context(call)?;
        self.check_vm(call, of)?;
        context.request(CheckFd { fd: self.0.fd }).await?;
        Ok(self.0.fd.number)
    }

    /// Its content as a stream, for a call on `of`; an error if it is another VM's.
    pub async fn fd_stream(
        &self,
        scope: &Scope,
        of: &Target,
        site: Site,
    ) -> Result<ByteStream, LabError> {
        let call = "fd_stream()";
        let context = self.context(call)?;
        self.check_vm(call, of)?;
        let subject = format!("stream of {}", self.subject());
        let source = context.lane.stream_fd(self.0.fd).await;
        let source = context.explain(source).await?;
        let context = context.made_now()?;
        Ok(tail::open(context, scope, source, subject, site))
    }

    fn check_vm(&self, call: &str, of: &Target) -> Result<(), LabError> {
        if self.target().is_in_vm_of(of) {
            return Ok(());
        }
        let why = format!("it is not a file of {}", of.vm().subject());
        Err(LabError::invalid(self.subject(), call, why))
    }

    /// Makes a raw syscall in the process that has it open. Messages show it as the author's `call`.
    ///
    /// # Errors
    /// As of [`GuestOps::syscall`](crate::GuestOps::syscall), and when the file is not open.
    pub async fn syscall(&self, call: String, request: Syscall) -> Result<SyscallResult, LabError> {
        let context = self.context(&call)?;
        let context = context.with_subject(self.target().subject(), call);
        syscall(&context, request).await
    }

    /// Whether it was closed.
    pub fn is_closed(&self) -> bool {
        lock(&self.0.closed).is_some_and(|closed| self.target().has(closed))
    }

    /// Up to `n` bytes from where the offset is; fewer only at the end of what there is.
    pub async fn read(&self, n: usize) -> Result<Vec<u8>, LabError> {
        let context = self.context("read()")?;
        let mut content = Vec::new();
        while content.len() < n {
            let wanted = (n - content.len()).min(LONGEST_READ);
            let max = u32::try_from(wanted).unwrap_or(u32::MAX);
            let piece = context.lane.read_fd(self.0.fd, max).await;
            let piece = self.unless_closed(&context, piece).await?;
            content.extend_from_slice(&piece);
            // A short read is all there is for now: a pipe or terminal gives what it has.
            if piece.len() < wanted {
                break;
            }
        }
        Ok(content)
    }

    /// Everything from where the offset is to the end.
    pub async fn read_all(&self) -> Result<Vec<u8>, LabError> {
        let context = self.context("read_all()")?;
        let content = context.lane.read_fd_to_end(self.0.fd).await;
        self.unless_closed(&context, content).await
    }

    /// Writes all of it; the number of bytes.
    pub async fn write(&self, data: &[u8]) -> Result<u64, LabError> {
        let context = self.context("write()")?;
        let written = context.lane.write_fd(self.0.fd, data).await;
        self.unless_closed(&context, written).await
    }

    /// Moves the offset; the new one, from the file's start.
    pub async fn seek(&self, offset: i64, whence: Whence) -> Result<u64, LabError> {
        self.seek_as("seek()", offset, whence).await
    }

    /// The offset, as the guest has it.
    pub async fn tell(&self) -> Result<u64, LabError> {
        self.seek_as("tell()", 0, Whence::Current).await
    }

    /// Streams what follows the offset and what is appended later; a pipe or terminal to its end.
    pub async fn tail_stream(&self, scope: &Scope, site: Site) -> Result<ByteStream, LabError> {
        let context = self.context("tail_stream()")?;
        let subject = format!("stream of {}", self.subject());
        context.request(CheckFd { fd: self.0.fd }).await?;
        let source = context.lane.tail_fd(self.0.fd).await;
        let source = context.explain(source).await?;
        let context = context.made_now()?;
        Ok(tail::open(context, scope, source, subject, site))
    }

    /// Closes it. Closed already is fine, and so is a file that a reset or an exit took along.
    pub async fn close(&self) -> Result<(), LabError> {
        if !self.begin_closing() {
            return Ok(());
        }
        // What was opened in an earlier guest does not count any more.
        if self.target().has(self.0.context.epoch) {
            let open_files = self.target().vm().open_files();
            open_files.fetch_sub(1, Ordering::Relaxed);
        }
        self.0.place.leave();
        let context = self.0.context.with_subject(self.subject(), "close()");
        let Ok(context) = context.validate("the file") else {
            // The guest that had it is off, dead or has been reset.
            return Ok(());
        };
        context.lane.cancel_calls_on(self.0.fd);
        match context.lane.call(CloseFd { fd: self.0.fd }).await {
            Err(error) if error.errno().is_some() => context.explain(Err(error)).await,
            // The process that had it is gone, and the descriptor with it.
            _ => Ok(()),
        }
    }

    /// Marks it closed; false if it was already. That is done before the request to the guest: in a snapshot
    /// that is taken meanwhile, the file counts as closed.
    fn begin_closing(&self) -> bool {
        let mut closed = lock(&self.0.closed);
        if closed.is_some_and(|closed| self.target().has(closed)) {
            return false;
        }
        *closed = Some(self.target().epoch());
        true
    }

    async fn seek_as(&self, call: &str, offset: i64, whence: Whence) -> Result<u64, LabError> {
        let context = self.context(call)?;
        let fd = self.0.fd;
        context.request(SeekFd { fd, offset, whence }).await
    }

    /// Explains the result of a call that may have ended since the file was closed.
    async fn unless_closed<T>(
        &self,
        context: &CallContext,
        result: Result<T, CallError>,
    ) -> Result<T, LabError> {
        match result {
            Err(_) if self.is_closed() => Err(LabError::gone(
                self.subject(),
                &context.call,
                "file is closed",
            )),
            result => context.explain(result).await,
        }
    }

    fn context(&self, call: &str) -> Result<CallContext, LabError> {
        if self.is_closed() {
            return Err(LabError::gone(self.subject(), call, "file is closed"));
        }
        self.0
            .context
            .with_subject(self.subject(), call)
            .validate("the file")
    }
}

/// The files of a VM or of a worker that have a handle.
#[derive(Debug, Default)]
pub(crate) struct Files(Mutex<Vec<Weak<Inner>>>);

impl Files {
    pub(crate) fn add(&self, file: &File) {
        let mut held = lock(&self.0);
        held.retain(|file| file.strong_count() > 0);
        held.push(Arc::downgrade(&file.0));
    }

    /// Closes them; the process that had their descriptors is gone.
    pub(crate) async fn close(&self) {
        for file in self.held() {
            // What could fail is the descriptor, which is gone.
            let _ = file.close().await;
        }
    }

    /// The VM was restored: scopes own those again that are open again.
    pub(crate) fn come_back(&self) {
        for file in self.held() {
            if !file.is_closed() && file.target().has(file.0.context.epoch) {
                file.0.place.take_again(Arc::new(file.clone()));
            }
        }
    }

    fn held(&self) -> Vec<File> {
        let held = lock(&self.0);
        held.iter().filter_map(Weak::upgrade).map(File).collect()
    }
}

impl fmt::Debug for Inner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&quoted(&self.path))
    }
}

impl Close for File {
    fn subject(&self) -> String {
        Self::subject(self)
    }

    fn close(&self) -> CloseFuture<'_> {
        Box::pin(Self::close(self))
    }

    fn guest(&self) -> Option<GuestKey> {
        Some(self.target().vm().key())
    }
}

impl fmt::Debug for File {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("File").field(&self.subject()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modes_become_flags() {
        let flags = |mode: OpenMode| mode.flags();
        let none = OpenMode::default();
        assert!(flags(none).is_err());
        assert_eq!(flags(OpenMode { read: true, ..none }), Ok(0));
        let new = OpenMode {
            write: true,
            create: true,
            exclusive: true,
            ..none
        };
        assert_eq!(flags(new), Ok(0o301));
        assert_eq!(
            flags(OpenMode {
                read: true,
                append: true,
                ..none
            }),
            Ok(0o2002)
        );
        assert!(
            flags(OpenMode {
                read: true,
                truncate: true,
                ..none
            })
            .is_err()
        );
    }
}
