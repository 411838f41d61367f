//! Copying directories: records between a thread that does the host's file I/O and the guest.

use super::outcome::{HostError, TreeSummary};
use super::pack::{PackError, pack};
use super::unpack::{UnpackError, unpack};
use crate::error::LabError;
use crate::guest::context::CallContext;
use crate::guest::describe::quoted;
use crate::guest::ops::GuestOps;
use camino::Utf8Path;
use tokio::sync::mpsc;

/// How many pieces wait between the two sides.
const PIECES: usize = 8;

/// Copies a directory of the host into one of the guest, which is created if it does not exist.
///
/// # Errors
/// What the guest or the host refuses; the error names the path. What was copied by then stays.
pub async fn push_dir(
    ops: &GuestOps,
    host: &Utf8Path,
    guest: &[u8],
) -> Result<TreeSummary, LabError> {
    let call = format!("push_dir(\"{host}\", {})", quoted(guest));
    let context = CallContext::new(ops.target(), call)?;
    let (sender, mut records) = mpsc::channel(PIECES);
    let path = host.as_std_path().to_owned();
    let packing = tokio::task::spawn_blocking(move || pack(&path, &sender));
    // The guest is asked once there is something to create: the host's directory may not exist.
    let mut upload = None;
    while let Some(piece) = records.recv().await {
        let upload = upload.get_or_insert_with(|| context.lane.unpack_tree(guest));
        let sent = upload.send(&piece).await;
        if !context.explain(sent).await? {
            break;
        }
    }
    drop(records);
    let summary = match joined(packing.await) {
        Ok(summary) => Some(summary),
        // The guest has ended the copy, and says why below.
        Err(PackError::Closed) => None,
        Err(PackError::Failed(error)) => return Err(on_host(&context, error)),
    };
    if let Some(upload) = upload {
        context.explain_start(upload.finish().await).await?;
    }
    summary.ok_or_else(|| context.unexpected("UnpackTree"))
}

/// Copies a directory of the guest into one of the host, which is created if it does not exist.
///
/// # Errors
/// What the guest or the host refuses; the error names the path. What was copied by then stays.
pub async fn pull_dir(
    ops: &GuestOps,
    guest: &[u8],
    host: &Utf8Path,
) -> Result<TreeSummary, LabError> {
    let call = format!("pull_dir({}, \"{host}\")", quoted(guest));
    let context = CallContext::new(ops.target(), call)?;
    let mut stream = context.lane.pack_tree(guest);
    let (sender, records) = mpsc::channel(PIECES);
    let path = host.as_std_path().to_owned();
    let unpacking = tokio::task::spawn_blocking(move || unpack(&path, records));
    let received = loop {
        match stream.next().await {
            Ok(Some(piece)) => {
                if sender.send(piece).await.is_err() {
                    // The host has refused, and says why below.
                    break Ok(());
                }
            }
            Ok(None) => break Ok(()),
            Err(error) => break Err(error),
        }
    };
    drop(sender);
    let unpacked = joined(unpacking.await);
    context.explain_start(received).await?;
    match unpacked {
        Ok(summary) => Ok(summary),
        Err(UnpackError::Host(error)) => Err(on_host(&context, error)),
        Err(UnpackError::Tree(error)) => Err(context.invalid(error.to_string())),
    }
}

fn on_host(context: &CallContext, error: HostError) -> LabError {
    let subject = context.subject.clone();
    LabError::host(subject, &context.call, error)
}

/// What a thread has returned; its panic continues here.
fn joined<T>(result: Result<T, tokio::task::JoinError>) -> T {
    result.unwrap_or_else(|error| std::panic::resume_unwind(error.into_panic()))
}
