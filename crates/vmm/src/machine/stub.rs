//! A client of QEMU's gdbstub: as much of gdb's remote protocol as waking a guest needs.
//!
//! The stub handles all bytes of one read before QEMU's main loop does anything else. So a monitor command
//! and an interrupt that are sent together take effect together, which none of QEMU's other interfaces
//! offers: between two QMP commands, its main loop may run once.
//!
//! A packet is `$`, its data, `#`, and the sum of the data's bytes, modulo 256, as two hexadecimal digits
//! (GDB manual, appendix E.1). Nothing here needs the escapes or the run lengths of that format. Deadlines are the
//! caller's.

use std::io;

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

/// Acknowledges a packet.
const ACK: u8 = b'+';
/// What Ctrl-C sends: stops a machine that runs.
const INTERRUPT: u8 = 0x03;

/// QEMU's own packets are limited to 4096 bytes.
const LONGEST: usize = 2 * 4096;

/// A stub that has answered.
pub(super) struct GdbStub<S> {
    stream: S,
    received: Vec<u8>,
}

impl<S: AsyncRead + AsyncWrite + Unpin> GdbStub<S> {
    /// Returns when the stub answers, which shows that no other debugger uses it.
    ///
    /// # Errors
    /// Of the stream; [`io::ErrorKind::InvalidData`] for anything but a packet.
    pub(super) async fn connect(stream: S) -> io::Result<Self> {
        let mut stub = Self {
            stream,
            received: Vec::new(),
        };
        // Any question would do; this one changes nothing.
        stub.stream.write_all(&packet("qAttached")).await?;
        stub.receive().await?;
        Ok(stub)
    }

    /// Runs the monitor command `command`, which lets the machine run, and stops the machine before it
    /// does; returns when it is stopped.
    ///
    /// # Errors
    /// As [`GdbStub::connect`]; [`io::ErrorKind::Other`] with what the monitor printed if it refuses.
    pub(super) async fn run_stopped(&mut self, command: &str) -> io::Result<()> {
        self.stream.write_all(&stopped_at_once(command)).await?;
        let mut words = Vec::new();
        loop {
            let reply = self.receive().await?;
            match reply.as_slice() {
                b"OK" if words.is_empty() => {}
                // The monitor printed an error, and the machine does not run.
                b"OK" => {
                    let words = String::from_utf8_lossy(&words);
                    return Err(io::Error::other(words.trim().to_owned()));
                }
                [b'O', output @ ..] => {
                    words.extend(from_hex(output).ok_or_else(|| no_packet(&reply))?);
                }
                [b'T' | b'S', ..] => return Ok(()),
                _ => return Err(no_packet(&reply)),
            }
        }
    }

    /// The data of the next packet.
    async fn receive(&mut self) -> io::Result<Vec<u8>> {
        loop {
            if let Some(data) = take_packet(&mut self.received)? {
                return Ok(data);
            }
            if self.received.len() > LONGEST {
                return Err(no_packet(&self.received));
            }
            if self.stream.read_buf(&mut self.received).await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
    }
}

fn packet(data: &str) -> Vec<u8> {
    format!("${data}#{:02x}", sum(data.as_bytes())).into_bytes()
}

/// The monitor command and the interrupt as one piece. Each packet of the stub has to be acknowledged first, or
/// the stub would take the interrupt for a reply to it.
fn stopped_at_once(command: &str) -> Vec<u8> {
    let command: String = command.bytes().map(|byte| format!("{byte:02x}")).collect();
    let mut piece = vec![ACK];
    piece.extend(packet(&format!("qRcmd,{command}")));
    piece.extend([ACK, INTERRUPT]);
    piece
}

/// The data of the first packet, which is taken out of `received` together with what is before it.
fn take_packet(received: &mut Vec<u8>) -> io::Result<Option<Vec<u8>>> {
    let Some(start) = received.iter().position(|byte| *byte == b'$') else {
        return Ok(None);
    };
    let Some(length) = received[start..].iter().position(|byte| *byte == b'#') else {
        return Ok(None);
    };
    let end = start + length;
    let Some(digits) = received.get(end + 1..end + 3) else {
        return Ok(None);
    };
    let data = received[start + 1..end].to_vec();
    if from_hex(digits) != Some(vec![sum(&data)]) {
        return Err(no_packet(&received[start..end + 3]));
    }
    received.drain(..end + 3);
    Ok(Some(data))
}

fn sum(data: &[u8]) -> u8 {
    data.iter().fold(0, |sum, byte| sum.wrapping_add(*byte))
}

fn from_hex(digits: &[u8]) -> Option<Vec<u8>> {
    let value = |digit: u8| char::from(digit).to_digit(16);
    let byte = |pair: &[u8]| match pair {
        [high, low] => u8::try_from(value(*high)? << 4 | value(*low)?).ok(),
        _ => None,
    };
    digits.chunks(2).map(byte).collect()
}

fn no_packet(said: &[u8]) -> io::Error {
    let said = String::from_utf8_lossy(said);
    io::Error::new(
        io::ErrorKind::InvalidData,
        format!("its reply `{said}` is not understood"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::DuplexStream;

    #[test]
    fn packets_carry_their_sum() {
        assert_eq!(packet("qAttached"), b"$qAttached#8f");
        assert_eq!(packet(""), b"$#00");
    }

    #[test]
    fn the_command_and_the_order_to_stop_are_one_piece() {
        assert_eq!(stopped_at_once("ab"), b"+$qRcmd,6162#f2+\x03");
    }

    #[test]
    fn packets_are_taken_whole_and_one_by_one() {
        let stream = b"+$OK#9a+$T02thread:01;#04$S";
        let mut received = Vec::new();
        let mut packets = Vec::new();
        for byte in stream {
            received.push(*byte);
            packets.extend(take_packet(&mut received).unwrap());
        }
        assert_eq!(packets, [b"OK".to_vec(), b"T02thread:01;".to_vec()]);
        assert_eq!(received, b"$S");
    }

    #[test]
    fn a_packet_with_a_wrong_checksum_is_refused() {
        for wrong in [&b"$OK#9b"[..], b"$OK#zz"] {
            let error = take_packet(&mut wrong.to_vec()).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::InvalidData);
        }
    }

    #[test]
    fn hexadecimal_digits_come_in_pairs() {
        assert_eq!(from_hex(b"4f6B"), Some(b"Ok".to_vec()));
        assert_eq!(from_hex(b"4f6"), None);
        assert_eq!(from_hex(b"4g"), None);
    }

    /// A stub that has been met, and its other end, which has said `says` to what came then.
    async fn met(says: &[u8]) -> (GdbStub<DuplexStream>, DuplexStream) {
        let (ours, mut theirs) = tokio::io::duplex(256);
        theirs.write_all(b"+$1#31").await.unwrap();
        let stub = GdbStub::connect(ours).await.unwrap();
        theirs.write_all(says).await.unwrap();
        (stub, theirs)
    }

    #[tokio::test]
    async fn a_stop_reply_of_the_stub_means_stopped() {
        let (mut stub, mut theirs) = met(b"+$OK#9a$T02thread:01;#04").await;
        stub.run_stopped("ab").await.unwrap();
        drop(stub);
        let mut heard = Vec::new();
        theirs.read_to_end(&mut heard).await.unwrap();
        assert_eq!(heard, b"$qAttached#8f+$qRcmd,6162#f2+\x03");
    }

    #[tokio::test]
    async fn an_error_has_the_text_of_the_monitor() {
        let said = [
            &b"+"[..],
            &packet("O6e6f"),
            &packet("O210d0a"),
            &packet("OK"),
        ]
        .concat();
        let (mut stub, _theirs) = met(&said).await;
        let error = stub.run_stopped("ab").await.unwrap_err();
        assert_eq!(error.to_string(), "no!");
    }

    #[tokio::test]
    async fn an_end_is_an_error() {
        let (mut stub, theirs) = met(b"+$OK#9a").await;
        drop(theirs);
        assert!(stub.run_stopped("ab").await.is_err());
    }
}
