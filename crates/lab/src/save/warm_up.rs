//! Runs a command in a guest before a test does.
//!
//! The first command in a guest takes ten times as long as the second one: the kernel allocates what it needs
//! to start a process, and QEMU, in each new process, translates the code that it runs. A template is saved
//! after a command, which spares all of its VMs the first part; a warm VM runs one more, which spares it the
//! second part.

use provium_guest::{CallError, Channel};
use provium_protocol::Lane;
use provium_protocol::op::{Exec, Stat};

/// Runs `echo` in a shell, which uses all that a command of a test uses: the file system, a new process, its
/// output, its end. A guest that has no shell is not an error. It sets no deadline; the caller does.
pub(crate) async fn warm_up(channel: &Channel) -> Result<(), CallError> {
    let vm = channel.lane(Lane::VM);
    let path = b"/".to_vec();
    vm.call(Stat { path }).await?;
    match vm.command(Exec::shell("echo"), 0).wait().await {
        Err(error) if error.channel().is_some() => Err(error),
        _ => Ok(()),
    }
}
