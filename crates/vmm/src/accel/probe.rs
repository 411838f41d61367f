//! Runs the tiny guest under one accelerator.

use std::io::Write;
use std::time::Duration;

use memchr::memmem;
use provium_process::{Command, Stdio};
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::time::{Instant, timeout};

use super::trial::Trial;
use crate::arguments::cpu_model;
use crate::confinement::small_environment;
use crate::{Accel, Qemu, tiny};

/// Work that takes TCG about 0.4 s, and a KVM that works less.
pub(super) const ROUNDS: u32 = 5_000;

/// How long a trial may take: ten times what a slow host needs, and at most once per boot of the host.
const DEADLINE: Duration = Duration::from_secs(10);

/// How much of the output of QEMU and its guest is read, bytes.
const OUTPUT_LIMIT: usize = 4096;

/// Runs the tiny guest.
pub(super) async fn run(qemu: &Qemu, accel: Accel) -> Trial {
    match attempt(qemu, accel).await {
        Ok(trial) => trial,
        Err(how) => Trial::Ended(how),
    }
}

async fn attempt(qemu: &Qemu, accel: Accel) -> Result<Trial, String> {
    let mut kernel = tempfile::NamedTempFile::new().map_err(|error| error.to_string())?;
    kernel
        .write_all(&tiny::elf(ROUNDS))
        .map_err(|error| error.to_string())?;
    let mut command = Command::new(qemu.path.as_str());
    small_environment(&mut command);
    command
        .args([
            "-nodefaults",
            "-no-user-config",
            "-display",
            "none",
            "-machine",
            "q35",
        ])
        .args([
            "-accel",
            accel.as_str(),
            "-cpu",
            cpu_model(accel),
            "-m",
            "32M",
        ])
        .args(["-no-reboot", "-serial", "stdio", "-kernel"])
        .arg(kernel.path())
        .stdin(Stdio::Pipe)
        .stdout(Stdio::Pipe)
        .stderr(Stdio::Pipe);
    let start = Instant::now();
    let mut child = command.spawn().map_err(|error| error.to_string())?;
    let (Some(mut console), Some(mut stderr)) = (child.stdout.take(), child.stderr.take()) else {
        return Err("QEMU has no output".to_owned());
    };
    let mut console_text = Vec::new();
    let cpu_time = || crate::usage::cpu_time(child.id()).ok();
    let read = timeout(
        DEADLINE,
        read_result(&mut console, &mut console_text, cpu_time),
    )
    .await;
    let total = start.elapsed();
    match read {
        Err(_) => Ok(Trial::Unfinished(DEADLINE)),
        Ok(Some(work)) => {
            let text = String::from_utf8_lossy(&console_text).into_owned();
            let result = text
                .split_once(tiny::STARTED)
                .map_or("", |(_, result)| result);
            if result == tiny::finished(ROUNDS) {
                Ok(Trial::Right { total, work })
            } else {
                Ok(Trial::Wrong(text.trim().replace('\n', " ")))
            }
        }
        Ok(None) => {
            let mut said = Vec::new();
            // It closed its console, so it is ending.
            let ended = async {
                let _ = (&mut stderr)
                    .take(OUTPUT_LIMIT as u64)
                    .read_to_end(&mut said)
                    .await;
                child.wait().await
            };
            let exit = timeout(DEADLINE, ended)
                .await
                .map_err(|_| "QEMU hangs".to_owned())?;
            let exit = exit.map_err(|error| error.to_string())?;
            let said = String::from_utf8_lossy(&said);
            let said = said.lines().next().unwrap_or("it says nothing");
            Err(format!(
                "QEMU {exit}: {}",
                said.trim_start_matches("qemu-system-x86_64: ")
            ))
        }
    }
}

/// Reads until the result is complete; what the work took, or `None` if the console ends before.
///
/// That is the processor time between the first word and the last, which other work on the host does
/// not lengthen, or where `cpu_time` does not know it the time that passed.
async fn read_result(
    console: &mut (impl AsyncRead + Unpin),
    text: &mut Vec<u8>,
    cpu_time: impl Fn() -> Option<Duration>,
) -> Option<Duration> {
    let mut buffer = [0; 256];
    let mut began = None;
    loop {
        match console.read(&mut buffer).await {
            Ok(count @ 1..) => text.extend_from_slice(&buffer[..count]),
            _ => return None,
        }
        if began.is_none() && memmem::find(text, tiny::STARTED.as_bytes()).is_some() {
            began = Some((Instant::now(), cpu_time()));
        }
        if text.ends_with(b" done\n") || text.len() > OUTPUT_LIMIT {
            // Without a beginning the result is wrong.
            let Some((at, used)) = began else {
                return Some(Duration::ZERO);
            };
            let used = used.and_then(|used| cpu_time()?.checked_sub(used));
            return Some(used.unwrap_or_else(|| at.elapsed()));
        }
    }
}
