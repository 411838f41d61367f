//! Unpacks a kernel's file to the form that is booted.

use super::bzimage::{self, BzImage};
use crate::compress::Format;
use crate::elf::Elf;

/// A `vmlinux` is not longer than this, bytes.
const MAX_KERNEL_BYTES: usize = 1 << 30;

/// What to boot.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Kernel {
    /// The file as it is.
    AsItIs,
    /// This `vmlinux`, which was in it.
    Vmlinux(Vec<u8>),
}

/// Why a file is not a kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum NotAKernel {
    #[error("it is empty")]
    Empty,
    #[error("it is cut off")]
    Truncated,
    #[error("its packed kernel is damaged")]
    Damaged,
    #[error("it is an ELF file for another machine than x86-64")]
    Machine,
    #[error(
        "it is an ELF file without a PVH entry; build the kernel with CONFIG_PVH=y, or give its bzImage"
    )]
    NoEntry,
    #[error("it is neither a bzImage nor an ELF vmlinux")]
    Unknown,
}

/// What to boot from the file with this content.
pub(crate) fn inspect(bytes: &[u8]) -> Result<Kernel, NotAKernel> {
    if bytes.is_empty() {
        return Err(NotAKernel::Empty);
    }
    if let Some(elf) = Elf::parse(bytes) {
        return match (elf.is_x86_64(), elf.has_pvh_entry()) {
            (false, _) => Err(NotAKernel::Machine),
            (true, false) => Err(NotAKernel::NoEntry),
            (true, true) => Ok(Kernel::AsItIs),
        };
    }
    match bzimage::parse(bytes) {
        None => Err(NotAKernel::Unknown),
        Some(BzImage::Truncated) => Err(NotAKernel::Truncated),
        Some(BzImage::Opaque) => Ok(Kernel::AsItIs),
        Some(BzImage::Payload(payload)) => unpack(payload),
    }
}

fn unpack(payload: &[u8]) -> Result<Kernel, NotAKernel> {
    let format = match Format::detect(payload) {
        // What we do not know, the kernel's own code unpacks.
        None | Some(Format::Lzo) => return Ok(Kernel::AsItIs),
        Some(format) => format,
    };
    // The build appends the unpacked length, four bytes, to all but gzip, which has it already. LZ4
    // has no end mark of its own, and would take that for one more block.
    let end = if format == Format::Lz4Legacy {
        payload.len().saturating_sub(4)
    } else {
        payload.len()
    };
    let unpacked = format
        .unpack(&mut &payload[..end], MAX_KERNEL_BYTES)
        .map_err(|_| NotAKernel::Damaged)?;
    match Elf::parse(&unpacked) {
        Some(elf) if elf.is_x86_64() && elf.has_pvh_entry() => Ok(Kernel::Vmlinux(unpacked)),
        _ => Ok(Kernel::AsItIs),
    }
}

#[cfg(test)]
mod tests {
    use super::super::bzimage::tests::around;
    use super::*;
    use crate::compress::tests::{gzip_of, lz4_legacy_of};
    use crate::elf::tests::{kernel, module};
    use proptest::prelude::*;

    fn with_size(mut packed: Vec<u8>) -> Vec<u8> {
        packed.extend(0x0001_0000_u32.to_le_bytes());
        packed
    }

    #[test]
    fn a_vmlinux_comes_out_of_each_packing() {
        let vmlinux = kernel(true);
        for payload in [
            gzip_of(&vmlinux),
            with_size(lz4_legacy_of(&vmlinux)),
            with_size(zstd::encode_all(&vmlinux[..], 3).unwrap()),
        ] {
            assert_eq!(
                inspect(&around(&payload)),
                Ok(Kernel::Vmlinux(vmlinux.clone()))
            );
        }
    }

    #[test]
    fn a_kernel_without_pvh_is_booted_unchanged() {
        for payload in [
            gzip_of(&kernel(false)),
            gzip_of(b"no ELF"),
            b"\x89LZO\0".to_vec(),
            b"new".to_vec(),
        ] {
            assert_eq!(inspect(&around(&payload)), Ok(Kernel::AsItIs));
        }
        assert_eq!(inspect(&kernel(true)), Ok(Kernel::AsItIs));
    }

    #[test]
    fn other_files_are_refused_with_a_reason() {
        let image = around(&gzip_of(&kernel(true)));
        assert_eq!(inspect(b""), Err(NotAKernel::Empty));
        assert_eq!(inspect(b"#!/bin/sh\n"), Err(NotAKernel::Unknown));
        assert_eq!(
            inspect(&image[..image.len() - 110]),
            Err(NotAKernel::Truncated)
        );
        assert_eq!(inspect(&kernel(false)), Err(NotAKernel::NoEntry));
        let mut damaged = image;
        damaged[1565..1600].fill(0xaa);
        assert_eq!(inspect(&damaged), Err(NotAKernel::Damaged));
        let mut other = module(&[]);
        other[18] = 183;
        assert_eq!(inspect(&other), Err(NotAKernel::Machine));
    }

    proptest! {
        #[test]
        fn damage_never_panics(changes in prop::collection::vec((0..2000_usize, any::<u8>()), 1..8)) {
            let mut image = around(&with_size(lz4_legacy_of(&kernel(true))));
            for (at, byte) in changes {
                let at = at % image.len();
                image[at] = byte;
            }
            let _ = inspect(&image);
        }
    }
}
