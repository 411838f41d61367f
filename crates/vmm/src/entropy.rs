//! A random number generator's stream that a seed fixes.
//!
//! QEMU's `rng-egd` backend asks for bytes over a socket in the protocol of the *entropy gathering
//! daemon*: the byte 2 and a count, answered by that many bytes. The answers are consecutive pieces
//! of one ChaCha20 stream, so the guest's `/dev/hwrng` gives the same bytes in every run, whatever
//! sizes it asks for.

use std::sync::atomic::{AtomicU64, Ordering};

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

    /// Goes past `count` bytes.
    fn skip(&mut self, mut count: u64) {
        while count > 0 {
            let piece = count.min(1 << 16);
            self.take(piece as usize);
            count -= piece;
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

/// Answers requests until the other side goes, and counts in `served` the bytes that were given. What
/// it counts at the start was given before: the stream continues after it.
pub(crate) async fn serve(
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    seed: u64,
    served: &AtomicU64,
) {
    let mut random = Stream::new(seed);
    random.skip(served.load(Ordering::Relaxed));
    let mut request = [0; 2];
    while stream.read_exact(&mut request).await.is_ok() {
        let [kind, count] = request;
        if kind != BLOCKING_READ {
            tracing::warn!(kind, "unknown request for entropy");
            return;
        }
        let bytes = random.take(usize::from(count));
        served.fetch_add(u64::from(count), Ordering::Relaxed);
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

    #[tokio::test]
    async fn the_stream_resumes_at_its_position() {
        let whole = read(7, &[48]).await;
        let served = AtomicU64::new(20);
        let (mut guest, theirs) = tokio::io::duplex(64);
        let answers = async { serve(theirs, 7, &served).await };
        let asks = async move { ask(&mut guest, 28).await };
        let (rest, ()) = tokio::join!(asks, answers);
        assert_eq!(rest, whole[20..]);
        assert_eq!(served.load(Ordering::Relaxed), 48);
    }

    async fn read(seed: u64, sizes: &[u8]) -> Vec<u8> {
        let (mut ours, theirs) = tokio::io::duplex(1024);
        let served = tokio::spawn(async move { serve(theirs, seed, &AtomicU64::new(0)).await });
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
