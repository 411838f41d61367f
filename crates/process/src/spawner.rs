//! The one thread that forks.
//!
//! A parent-death signal (`prctl(2)`, `PR_SET_PDEATHSIG`) is sent when the *thread* that forked ends.
//! Threads of a runtime end at any time, and the kernel would kill the children that they forked. This
//! thread starts with the first child and ends with the process.

use std::io;
use std::sync::mpsc;
use std::sync::{Mutex, PoisonError};

use crate::sys::{self, ExecArgs, ForkedChild};

struct Request {
    exec: ExecArgs,
    reply: mpsc::SyncSender<io::Result<ForkedChild>>,
}

static SPAWNER: Mutex<Option<mpsc::Sender<Request>>> = Mutex::new(None);

/// Forks on the spawner thread. The outer error is the thread's, the inner one the fork's.
pub(crate) fn fork(exec: ExecArgs) -> io::Result<io::Result<ForkedChild>> {
    let (reply, replied) = mpsc::sync_channel(1);
    let mut request = Request { exec, reply };
    let mut spawner = SPAWNER.lock().unwrap_or_else(PoisonError::into_inner);
    loop {
        if let Some(sender) = spawner.as_ref() {
            match sender.send(request) {
                Ok(()) => break,
                Err(unsent) => request = unsent.0,
            }
        }
        let (sender, requests) = mpsc::channel();
        std::thread::Builder::new()
            .name("provium-spawner".to_owned())
            .spawn(move || serve(&requests))?;
        *spawner = Some(sender);
    }
    drop(spawner);
    replied
        .recv()
        .map_err(|_| io::Error::other("the spawner thread has ended"))
}

/// The spawner thread. The sender lives in a static, so this never returns.
fn serve(requests: &mpsc::Receiver<Request>) {
    sys::block_all_signals();
    while let Ok(Request { exec, reply }) = requests.recv() {
        let forked = sys::fork_exec(&exec);
        drop(exec);
        // The caller waits for the reply without a limit.
        let _ = reply.send(forked);
    }
}
