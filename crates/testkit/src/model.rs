//! A guest in memory: files by path, descriptors, and commands of a few words.
//!
//! | command | does |
//! |---|---|
//! | `echo WORDS` | writes them |
//! | `warn WORDS` | writes them to its error output |
//! | `cat` | copies its input |
//! | `exit N` | exits with N |
//! | `wait` | runs until it is signalled or cancelled |
//! | `flood N` | writes N bytes, `N mod 251` counted up |
//!
//! Time does not pass here: [`Op::ClockSleep`] lasts until [`ModelGuest::wake`] or a cancel.

use crate::serving::{Guest, GuestCall, ReplyFuture, lock};
use provium_protocol::message::{EntryType, Exit, FileStat};
use provium_protocol::op::{Exec, Program, Stdin};
use provium_protocol::{
    CallId, Descriptor, ErrorKind, Event, Lane, Op, Reply, StreamId, WireError,
};
use serde_bytes::ByteBuf;
use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex};
use tokio::sync::{Notify, watch};

const ENOENT: i32 = 2;
const ESRCH: i32 = 3;
const EBADF: i32 = 9;

/// A guest in memory, as the module's table describes it. Clones are the same guest.
#[derive(Debug, Clone, Default)]
pub struct ModelGuest(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    state: Mutex<State>,
    alarm: Notify,
}

#[derive(Debug, Default)]
struct State {
    files: BTreeMap<Vec<u8>, Vec<u8>>,
    descriptors: BTreeMap<i32, Vec<u8>>,
    running: HashMap<CallId, watch::Sender<Option<i32>>>,
    workers: BTreeMap<Lane, u32>,
    last: u32,
}

impl ModelGuest {
    /// An empty one.
    pub fn new() -> Self {
        Self::default()
    }

    /// A file's content.
    pub fn file(&self, path: &str) -> Option<Vec<u8>> {
        lock(&self.0.state).files.get(path.as_bytes()).cloned()
    }

    /// Puts a file there.
    pub fn put(&self, path: &str, content: Vec<u8>) {
        lock(&self.0.state)
            .files
            .insert(path.as_bytes().to_vec(), content);
    }

    /// Commands that run.
    pub fn running(&self) -> usize {
        lock(&self.0.state).running.len()
    }

    /// Open descriptors.
    pub fn descriptors(&self) -> usize {
        lock(&self.0.state).descriptors.len()
    }

    /// Workers.
    pub fn workers(&self) -> usize {
        lock(&self.0.state).workers.len()
    }

    /// Ends all sleeps that are under way.
    pub fn wake(&self) {
        self.0.alarm.notify_waiters();
    }

    async fn answer(self, mut call: GuestCall) -> Result<Reply, WireError> {
        match call.op.clone() {
            Op::ReadFile { path, inline } => {
                let content = lock(&self.0.state)
                    .files
                    .get(&path)
                    .cloned()
                    .ok_or(os(ENOENT, "open"))?;
                if inline {
                    return Ok(Reply::Bytes(ByteBuf::from(content)));
                }
                call.output(StreamId::Output, &content).await;
                call.end(StreamId::Output).await;
                Ok(Reply::Count(content.len() as u64))
            }
            Op::WriteFile {
                path,
                append,
                content,
                ..
            } => {
                let content = match content {
                    Some(content) => content.into_vec(),
                    None => read_all(&mut call).await,
                };
                let len = content.len() as u64;
                let mut state = lock(&self.0.state);
                let file = state.files.entry(path).or_default();
                if !append {
                    file.clear();
                }
                file.extend(content);
                Ok(Reply::Count(len))
            }
            Op::Stat { path } => {
                let state = lock(&self.0.state);
                let content = state.files.get(&path).ok_or(os(ENOENT, "stat"))?;
                Ok(Reply::Stat(FileStat {
                    size: content.len() as u64,
                    mtime: 0,
                    mtime_ns: 0,
                    perm: 0o644,
                    entry_type: EntryType::File,
                    uid: 0,
                    gid: 0,
                    ino: 1,
                    nlink: 1,
                }))
            }
            Op::Unlink { path } => match lock(&self.0.state).files.remove(&path) {
                Some(_) => Ok(Reply::Done),
                None => Err(os(ENOENT, "unlink")),
            },
            Op::Open { path, .. } => {
                let mut state = lock(&self.0.state);
                state.last += 1;
                let fd = i32::try_from(state.last).unwrap_or(i32::MAX);
                state.descriptors.insert(fd, path);
                Ok(Reply::Opened(Descriptor {
                    number: fd,
                    generation: 1,
                }))
            }
            Op::CloseFd { fd } => match lock(&self.0.state).descriptors.remove(&fd.number) {
                Some(_) => Ok(Reply::Done),
                None => Err(os(EBADF, "close")),
            },
            Op::WriteFd { fd } => {
                let content = read_all(&mut call).await;
                let mut state = lock(&self.0.state);
                let path = state
                    .descriptors
                    .get(&fd.number)
                    .cloned()
                    .ok_or(os(EBADF, "write"))?;
                let len = content.len() as u64;
                state.files.entry(path).or_default().extend(content);
                Ok(Reply::Count(len))
            }
            Op::SpawnWorker(_) => {
                let mut state = lock(&self.0.state);
                state.last += 1;
                let pid = state.last;
                let lane = Lane(Lane::FIRST_WORKER.0 + pid);
                state.workers.insert(lane, pid);
                Ok(Reply::Worker { lane, pid })
            }
            Op::RetireWorker { lane } => {
                lock(&self.0.state).workers.remove(&lane);
                Ok(Reply::Done)
            }
            Op::ClockGet => Ok(Reply::Clock(1_700_000_000_000_000_000)),
            Op::ClockSleep { .. } => {
                self.0.alarm.notified().await;
                Ok(Reply::Done)
            }
            Op::Signal { call, signal, .. } => match lock(&self.0.state).running.get(&call) {
                Some(running) => {
                    running.send_replace(Some(signal));
                    Ok(Reply::Done)
                }
                None => Err(os(ESRCH, "kill")),
            },
            Op::Exec(exec) => self.exec(call, exec).await,
            _ => Err(WireError {
                kind: ErrorKind::Invalid,
                errno: 0,
                message: "not in the model".to_owned(),
            }),
        }
    }

    async fn exec(&self, mut call: GuestCall, exec: Exec) -> Result<Reply, WireError> {
        let line = match exec.program {
            Program::Shell(line) => String::from_utf8_lossy(&line).into_owned(),
            Program::Argv(words) => {
                let words: Vec<_> = words.iter().map(|it| String::from_utf8_lossy(it)).collect();
                words.join(" ")
            }
        };
        let (program, rest) = line.split_once(' ').unwrap_or((&line, ""));
        let (kill, mut killed) = watch::channel(None);
        lock(&self.0.state).running.insert(call.id, kill);
        let _running = RunningGuard {
            guest: self,
            id: call.id,
        };
        if !["echo", "warn", "cat", "exit", "wait", "flood"].contains(&program) {
            return Err(os(ENOENT, program));
        }
        call.event(Event::Started {
            pid: 1000 + call.id.0,
        })
        .await;
        let mut code = 0;
        let work = async {
            match program {
                "echo" => {
                    call.output(StreamId::Output, format!("{rest}\n").as_bytes())
                        .await
                }
                "warn" => {
                    call.output(StreamId::Error, format!("{rest}\n").as_bytes())
                        .await
                }
                "cat" => match exec.stdin {
                    Stdin::Null => {}
                    Stdin::Bytes(bytes) => call.output(StreamId::Output, &bytes).await,
                    Stdin::Channel => {
                        while let Some(bytes) = call.input().await {
                            call.output(StreamId::Output, &bytes).await;
                        }
                    }
                },
                "exit" => code = rest.parse().unwrap_or(255),
                "flood" => {
                    let count: usize = rest.parse().unwrap_or(0);
                    let mut at = 0;
                    while at < count {
                        let end = count.min(at + 64 * 1024);
                        let piece: Vec<u8> = (at..end).map(|it| (it % 251) as u8).collect();
                        call.output(StreamId::Output, &piece).await;
                        at = end;
                    }
                }
                _ => std::future::pending().await,
            }
        };
        let signal = tokio::select! {
            () = work => None,
            Ok(signal) = killed.wait_for(Option::is_some) => *signal,
        };
        let code = signal.is_none().then_some(code);
        Ok(Reply::Exited(Exit {
            code,
            signal,
            duration_ns: 1,
        }))
    }
}

impl Guest for ModelGuest {
    fn handle(&self, call: GuestCall) -> ReplyFuture {
        Box::pin(self.clone().answer(call))
    }
}

/// Takes a command off the list however it ends.
struct RunningGuard<'a> {
    guest: &'a ModelGuest,
    id: CallId,
}

impl Drop for RunningGuard<'_> {
    fn drop(&mut self) {
        lock(&self.guest.0.state).running.remove(&self.id);
    }
}

async fn read_all(call: &mut GuestCall) -> Vec<u8> {
    let mut content = Vec::new();
    while let Some(bytes) = call.input().await {
        content.extend(bytes);
    }
    content
}

fn os(errno: i32, message: &str) -> WireError {
    WireError {
        kind: ErrorKind::Os,
        errno,
        message: message.to_owned(),
    }
}
