//! Which kernels can be woken from S3.

use std::fs::File;
use std::io::Read as _;

use camino::Utf8Path;

/// The first bytes of an ELF file.
const ELF_MAGIC: &[u8; 4] = b"\x7fELF";

/// Whether a guest that was started from `kernel` can be woken from S3. With an ELF image it cannot: QEMU
/// handles a wakeup as a reset, at which it loads the image over the guest's memory again.
pub fn supports_s3(kernel: &Utf8Path) -> bool {
    let mut magic = [0; ELF_MAGIC.len()];
    let read = File::open(kernel).and_then(|mut kernel| kernel.read_exact(&mut magic));
    read.is_ok() && magic != *ELF_MAGIC
}
