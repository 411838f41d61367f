//! Asks an NBD server what it exports, before QEMU connects to it.
//!
//! QEMU does nothing else while it negotiates with a server, so a server that is silent, or not an NBD server, is
//! found out here.

use std::io;
use std::time::Duration;

use camino::Utf8Path;
use provium_nbd::{ExportInfo, ExportQuery, SECTOR};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::UnixStream;
use tokio::time::timeout;

/// A server on this host answers in less than a millisecond.
const DEADLINE: Duration = Duration::from_secs(10);

/// Asks the server at `socket` for its default export.
///
/// # Errors
/// When there is none, it does not answer in time, or it does not speak NBD.
pub(super) async fn ask_export(socket: &Utf8Path) -> io::Result<ExportInfo> {
    let asked = timeout(DEADLINE, async {
        ask(UnixStream::connect(socket).await?).await
    });
    asked.await.unwrap_or_else(|_| {
        let silent = format!("it does not answer within {DEADLINE:?}");
        Err(io::Error::new(io::ErrorKind::TimedOut, silent))
    })
}

/// An error if the export cannot be the content of a disk.
pub(super) fn check_export(export: ExportInfo, read_only: bool) -> io::Result<ExportInfo> {
    let sector = u64::from(SECTOR);
    if export.size < sector || !export.size.is_multiple_of(sector) {
        return Err(io::Error::other(format!(
            "it exports {} bytes, and a disk has whole sectors of {SECTOR} bytes, at least one",
            export.size
        )));
    }
    if export.is_read_only && !read_only {
        return Err(io::Error::other(
            "its export is read-only, and the disk is not",
        ));
    }
    Ok(export)
}

async fn ask(mut stream: impl AsyncRead + AsyncWrite + Unpin) -> io::Result<ExportInfo> {
    let (mut query, mut output) = (ExportQuery::default(), Vec::new());
    let mut input = [0; 4096];
    loop {
        let count = stream.read(&mut input).await?;
        if count == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let answer = query.receive(&input[..count], &mut output);
        if let Some(export) = answer.map_err(io::Error::other)? {
            // The server may end the connection before this arrives.
            let _ = stream.write_all(&output).await;
            return Ok(export);
        }
        stream.write_all(&output).await?;
        output.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The outcome for a server that sends this, and ends the connection.
    async fn outcome(sent: &[u8]) -> Result<ExportInfo, String> {
        let (ours, mut theirs) = tokio::io::duplex(1 << 16);
        theirs.write_all(sent).await.unwrap();
        theirs.shutdown().await.unwrap();
        ask(ours).await.map_err(|error| error.to_string())
    }

    #[tokio::test]
    async fn an_answer_is_read_to_its_end() {
        let greeting = b"NBDMAGICIHAVEOPT\0\x03";
        let reply = b"\0\x03\xe8\x89\x04\x55\x65\xa9\0\0\0\x06";
        let size = b"\0\0\0\x03\0\0\0\x0c\0\0\0\0\0\0\0\0\x10\0\0\x01";
        let ack = b"\0\0\0\x01\0\0\0\0";
        let answer = [&greeting[..], reply, size, reply, ack].concat();
        assert_eq!(outcome(&answer).await.unwrap().size, 4096);
        let error = outcome(&answer[..answer.len() - 1]).await.unwrap_err();
        assert!(error.contains("end of file"), "{error}");
        let error = outcome(b"HTTP/1.1 400 Bad Request").await.unwrap_err();
        assert_eq!(error, "it is not an NBD server");
    }

    #[test]
    fn a_disk_has_whole_sectors() {
        let check = |size, is_read_only, read_only| {
            let name = String::new();
            let export = ExportInfo {
                name,
                size,
                is_read_only,
            };
            check_export(export, read_only).map_err(|error| error.to_string())
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
