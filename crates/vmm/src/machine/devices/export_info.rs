//! Asks an NBD server what it exports, before QEMU connects to it.
//!
//! QEMU does nothing else while it negotiates with a server, so a server that is silent, or not an NBD server, is
//! found out here. The format is that of the NBD protocol's `doc/proto.md`: fixed newstyle negotiation, the option
//! `NBD_OPT_INFO` for the default export.

use std::io;
use std::time::Duration;

use camino::Utf8Path;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::UnixStream;
use tokio::time::timeout;

/// A server on this host answers in less than a millisecond.
const DEADLINE: Duration = Duration::from_secs(10);

const MAGIC: u64 = u64::from_be_bytes(*b"NBDMAGIC");
const OPTION_MAGIC: u64 = u64::from_be_bytes(*b"IHAVEOPT");
const REPLY_MAGIC: u64 = 0x0003_e889_0455_65a9;

/// `NBD_FLAG_FIXED_NEWSTYLE` and its counterpart `NBD_FLAG_C_FIXED_NEWSTYLE`.
const FIXED_NEWSTYLE: u16 = 1;

const OPT_ABORT: u32 = 2;
const OPT_INFO: u32 = 6;

const REP_ACK: u32 = 1;
const REP_INFO: u32 = 3;
/// Set in the types of errors.
const REP_ERROR: u32 = 1 << 31;

const INFO_EXPORT: u16 = 0;

/// `NBD_FLAG_READ_ONLY` of an export.
const READ_ONLY: u16 = 1 << 1;

/// The longest reply that is read, bytes. The protocol limits strings to 4096.
const LONGEST_REPLY: u32 = 8192;

/// The most replies to one option that are read.
const MOST_REPLIES: u32 = 64;

/// The unit of a disk's size, bytes.
const SECTOR: u64 = 512;

/// What an NBD server says about its default export.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct ExportInfo {
    /// Bytes.
    pub(super) size: u64,
    /// It refuses writes.
    pub(super) is_read_only: bool,
}

impl ExportInfo {
    /// Asks the server at `socket`.
    ///
    /// # Errors
    /// When there is none, it does not answer in time, or it does not speak NBD.
    pub(super) async fn ask(socket: &Utf8Path) -> io::Result<Self> {
        let asked = timeout(DEADLINE, async {
            negotiate(UnixStream::connect(socket).await?).await
        });
        asked.await.unwrap_or_else(|_| {
            let silent = format!("it does not answer within {DEADLINE:?}");
            Err(io::Error::new(io::ErrorKind::TimedOut, silent))
        })
    }

    /// An error if no disk can be made of it.
    pub(super) fn check(self, read_only: bool) -> io::Result<Self> {
        if self.size < SECTOR || !self.size.is_multiple_of(SECTOR) {
            return Err(io::Error::other(format!(
                "it exports {} bytes, and a disk has whole sectors of {SECTOR} bytes, at least one",
                self.size
            )));
        }
        if self.is_read_only && !read_only {
            return Err(io::Error::other(
                "its export is read-only, and the disk is not",
            ));
        }
        Ok(self)
    }
}

async fn negotiate(mut stream: impl AsyncRead + AsyncWrite + Unpin) -> io::Result<ExportInfo> {
    let greeting = stream.read_u64().await?;
    if greeting != MAGIC || stream.read_u64().await? != OPTION_MAGIC {
        return Err(foreign("it is not an NBD server"));
    }
    if stream.read_u16().await? & FIXED_NEWSTYLE == 0 {
        return Err(foreign("it has no fixed newstyle negotiation"));
    }
    let mut request = u32::from(FIXED_NEWSTYLE).to_be_bytes().to_vec();
    // The default export has an empty name; nothing is asked for beside what every answer has.
    request.extend(option(OPT_INFO, &[0; 6]));
    stream.write_all(&request).await?;
    let mut info = None;
    for _ in 0..MOST_REPLIES {
        let (kind, data) = reply(&mut stream).await?;
        match (kind, info) {
            (REP_ACK, Some(info)) => {
                // The server may end the connection before this arrives.
                let _ = stream.write_all(&option(OPT_ABORT, &[])).await;
                return Ok(info);
            }
            (REP_ACK, None) => return Err(foreign("it does not say how large its export is")),
            (REP_INFO, _) => info = export(&data).or(info),
            (error, _) if error & REP_ERROR != 0 => {
                let said = String::from_utf8_lossy(&data).escape_debug().to_string();
                return Err(io::Error::other(format!(
                    "it refuses its default export with error {}: `{said}`",
                    error & !REP_ERROR
                )));
            }
            _ => {}
        }
    }
    Err(foreign("its answer does not end"))
}

/// An option with its data.
fn option(number: u32, data: &[u8]) -> Vec<u8> {
    let mut option = OPTION_MAGIC.to_be_bytes().to_vec();
    option.extend(number.to_be_bytes());
    option.extend((data.len() as u32).to_be_bytes());
    option.extend(data);
    option
}

/// Type and data of the next reply to the option.
async fn reply(stream: &mut (impl AsyncRead + Unpin)) -> io::Result<(u32, Vec<u8>)> {
    let is_reply = stream.read_u64().await? == REPLY_MAGIC;
    if !is_reply || stream.read_u32().await? != OPT_INFO {
        return Err(foreign("it does not answer the option that it is sent"));
    }
    let kind = stream.read_u32().await?;
    let length = stream.read_u32().await?;
    if length > LONGEST_REPLY {
        return Err(foreign("its answer is too long"));
    }
    let mut data = vec![0; length as usize];
    stream.read_exact(&mut data).await?;
    Ok((kind, data))
}

/// The data of `NBD_INFO_EXPORT`.
fn export(data: &[u8]) -> Option<ExportInfo> {
    let (kind, rest) = data.split_first_chunk()?;
    let (size, rest) = rest.split_first_chunk()?;
    let (flags, _) = rest.split_first_chunk()?;
    (u16::from_be_bytes(*kind) == INFO_EXPORT).then(|| ExportInfo {
        size: u64::from_be_bytes(*size),
        is_read_only: u16::from_be_bytes(*flags) & READ_ONLY != 0,
    })
}

fn foreign(why: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn greeting(flags: u16) -> Vec<u8> {
        [b"NBDMAGICIHAVEOPT", &flags.to_be_bytes()[..]].concat()
    }

    fn answer(kind: u32, data: &[u8]) -> Vec<u8> {
        let mut answer = REPLY_MAGIC.to_be_bytes().to_vec();
        answer.extend(OPT_INFO.to_be_bytes());
        answer.extend(kind.to_be_bytes());
        answer.extend((data.len() as u32).to_be_bytes());
        answer.extend(data);
        answer
    }

    fn info(size: u64, flags: u16) -> Vec<u8> {
        let data = [&[0; 2], &size.to_be_bytes()[..], &flags.to_be_bytes()].concat();
        answer(REP_INFO, &data)
    }

    /// What comes of a server that sends this, and ends the connection; and what it is sent.
    async fn outcome(parts: &[Vec<u8>]) -> (Result<ExportInfo, String>, Vec<u8>) {
        let (ours, mut theirs) = tokio::io::duplex(1 << 16);
        theirs.write_all(&parts.concat()).await.unwrap();
        theirs.shutdown().await.unwrap();
        let result = negotiate(ours).await.map_err(|error| error.to_string());
        let mut heard = Vec::new();
        theirs.read_to_end(&mut heard).await.unwrap();
        (result, heard)
    }

    #[tokio::test]
    async fn the_default_export_is_asked_for() {
        // Block sizes (3) are not of interest.
        let sizes = answer(REP_INFO, &[&[0, 3], &[1; 12][..]].concat());
        let parts = [greeting(3), sizes, info(4096, 0x1ef), answer(REP_ACK, &[])];
        let (result, heard) = outcome(&parts).await;
        let expected = ExportInfo {
            size: 4096,
            is_read_only: true,
        };
        assert_eq!(result, Ok(expected));
        let sent = [
            &b"\0\0\0\x01IHAVEOPT\0\0\0\x06\0\0\0\x06\0\0\0\0\0\0"[..],
            b"IHAVEOPT\0\0\0\x02\0\0\0\0",
        ];
        assert_eq!(heard, sent.concat());
        let (result, _) = outcome(&[greeting(1), info(512, 1), answer(REP_ACK, &[])]).await;
        assert!(!result.unwrap().is_read_only);
    }

    #[tokio::test]
    async fn other_servers_are_refused() {
        let ack = || answer(REP_ACK, &[]);
        let endless = vec![info(512, 1); 100].concat();
        for (parts, expected) in [
            (
                vec![b"HTTP/1.1 400 Bad Request".to_vec()],
                "not an NBD server",
            ),
            (vec![greeting(0)], "fixed newstyle"),
            (vec![greeting(1), ack()], "how large"),
            (
                vec![greeting(1), answer(REP_ERROR | 6, b"no \"x\"")],
                r#"error 6: `no \"x\"`"#,
            ),
            (vec![greeting(1), answer(REP_INFO, &[0; 9000])], "too long"),
            (
                vec![greeting(1), answer(REP_INFO, &[0; 3]), ack()],
                "how large",
            ),
            (
                vec![greeting(1), vec![7; 100]],
                "does not answer the option",
            ),
            (vec![greeting(1), endless], "does not end"),
            (vec![greeting(1), info(512, 1)], "end of file"),
            (vec![], "end of file"),
        ] {
            let error = outcome(&parts).await.0.unwrap_err();
            assert!(error.contains(expected), "{error}");
        }
    }

    #[test]
    fn a_disk_has_whole_sectors() {
        let check = |size, is_read_only, read_only| {
            let info = ExportInfo { size, is_read_only };
            info.check(read_only).map_err(|error| error.to_string())
        };
        for (size, is_read_only, read_only) in
            [(512, false, false), (1024, true, true), (512, false, true)]
        {
            assert!(check(size, is_read_only, read_only).is_ok());
        }
        for size in [0, 100, 511, 513] {
            assert!(
                check(size, false, false)
                    .unwrap_err()
                    .contains("whole sectors")
            );
        }
        assert!(check(512, true, false).unwrap_err().contains("read-only"));
    }
}
