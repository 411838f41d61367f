//! A random number generator's stream that a seed fixes.
//!
//! QEMU's `rng-egd` backend asks for bytes over a socket in the protocol of the *entropy gathering
//! daemon*: the byte 2 and a count, answered by that many bytes. The answers are consecutive pieces
//! of one ChaCha20 stream, so the guest's `/dev/hwrng` gives the same bytes in every run, whatever
//! sizes it asks for.

use rand_chacha::ChaCha20Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// "Give me entropy, and wait until you have it": the only request that QEMU makes.
const BLOCKING_READ: u8 = 2;

/// The stream of a seed.
struct Stream {
    random: ChaCha20Rng,
    /// Bytes of the last word that were not given yet.
    rest: Vec<u8>,
}

impl Stream {
    fn new(seed: u64) -> Self {
        // Written out instead of a library's seeding: the stream must never change.
        let mut key = *b"........provium guest entropy v1";
        key[..8].copy_from_slice(&seed.to_le_bytes());
        Self {
            random: ChaCha20Rng::from_seed(key),
            rest: Vec::new(),
        }
    }

    /// The next `count` bytes.
    fn take(&mut self, count: usize) -> Vec<u8> {
        while self.rest.len() < count {
            self.rest
                .extend_from_slice(&self.random.next_u32().to_le_bytes());
        }
        self.rest.drain(..count).collect()
    }
}

/// Answers requests until the other side goes.
pub(crate) async fn serve(mut stream: impl AsyncRead + AsyncWrite + Unpin, seed: u64) {
    let mut random = Stream::new(seed);
    let mut request = [0; 2];
    while stream.read_exact(&mut request).await.is_ok() {
        let [kind, count] = request;
        if kind != BLOCKING_READ {
            tracing::warn!(kind, "unknown request for entropy");
            return;
        }
        let bytes = random.take(usize::from(count));
        if stream.write_all(&bytes).await.is_err() {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn ask(stream: &mut tokio::io::DuplexStream, count: u8) -> Vec<u8> {
        stream.write_all(&[BLOCKING_READ, count]).await.unwrap();
        let mut bytes = vec![0; usize::from(count)];
        stream.read_exact(&mut bytes).await.unwrap();
        bytes
    }

    async fn read(seed: u64, sizes: &[u8]) -> Vec<u8> {
        let (mut ours, theirs) = tokio::io::duplex(1024);
        let served = tokio::spawn(serve(theirs, seed));
        let mut all = Vec::new();
        for size in sizes {
            all.extend(ask(&mut ours, *size).await);
        }
        drop(ours);
        served.await.unwrap();
        all
    }

    #[tokio::test]
    async fn a_seed_fixes_the_stream_however_it_is_cut() {
        let whole = read(7, &[96]).await;
        assert_eq!(read(7, &[1, 3, 64, 0, 28]).await, whole);
        assert_ne!(read(8, &[96]).await, whole);
    }

    #[tokio::test]
    async fn the_stream_never_changes() {
        insta::assert_snapshot!(format!("{:02x?}", read(1, &[16]).await));
    }
}
