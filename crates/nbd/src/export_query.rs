//! A client that only asks a server what its default export is: the option `INFO`.
//!
//! ```text
//! server                                      client
//!   │ NBDMAGIC, IHAVEOPT, handshake flags ───▶ │
//!   │ ◀────────────── client flags, INFO for "" │
//!   │ any number of INFO replies, ACK ───────▶ │
//!   │ ◀────────────────────────────────── ABORT │
//! ```

use crate::handshake::ExportInfo;
use crate::wire::{
    INIT_MAGIC, OPTION_MAGIC, OPTION_REPLY_MAGIC, field, handshake_flag, info, length, option,
    option_reply, transmission_flag,
};

/// The longest reply that is read, bytes. The specification limits strings to 4096.
const LONGEST_REPLY: u32 = 8192;

/// The most replies that are read.
const MOST_REPLIES: u32 = 64;

/// The state of a query.
///
/// The caller passes what it reads from its socket to [`receive`](Self::receive), and sends what that adds to the
/// output.
#[derive(Debug, Default)]
pub struct ExportQuery {
    /// Received, and not decoded yet.
    input: Vec<u8>,
    is_greeted: bool,
    replies: u32,
    export: Option<ExportInfo>,
}

/// Why a server does not say what it exports.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum QueryError {
    /// It does not send the magic numbers of an NBD server.
    #[error("it is not an NBD server")]
    NotNbd,
    /// It offers no negotiation with replies.
    #[error("it does not offer fixed newstyle negotiation")]
    NotFixedNewstyle,
    /// It sends something else than a reply to the option.
    #[error("it does not reply to NBD_OPT_INFO")]
    NotAReply,
    /// It sends a longer reply than the specification allows.
    #[error("it sends a reply of {0} bytes; at most {LONGEST_REPLY} are read")]
    LongReply(u32),
    /// It does not finish its replies.
    #[error("it sends more than {MOST_REPLIES} replies to NBD_OPT_INFO")]
    ManyReplies,
    /// It acknowledges the option without `NBD_INFO_EXPORT`.
    #[error("it does not send the size of its default export")]
    NoSize,
    /// It refuses the option.
    #[error("it refuses its default export with error {number}: `{}`", text.escape_debug())]
    Refused {
        /// The type of the reply, without the bit that marks errors.
        number: u32,
        /// Its text.
        text: String,
    },
}

impl ExportQuery {
    /// Takes what the server sends, in pieces of any size. Returns what it exports, once it has said that.
    ///
    /// # Errors
    /// The caller must close the connection.
    pub fn receive(
        &mut self,
        bytes: &[u8],
        output: &mut Vec<u8>,
    ) -> Result<Option<ExportInfo>, QueryError> {
        self.input.extend_from_slice(bytes);
        if !self.is_greeted {
            self.greeting(output)?;
        }
        while self.is_greeted {
            let Some((kind, data)) = self.reply()? else {
                break;
            };
            match (kind, self.export.take()) {
                (option_reply::ACK, Some(export)) => {
                    put_option(output, option::ABORT, &[]);
                    return Ok(Some(export));
                }
                (option_reply::ACK, None) => return Err(QueryError::NoSize),
                (option_reply::INFO, known) => self.export = parse_export(&data).or(known),
                (error, _) if error & option_reply::ERROR != 0 => {
                    return Err(QueryError::Refused {
                        number: error & !option_reply::ERROR,
                        text: String::from_utf8_lossy(&data).into_owned(),
                    });
                }
                (_, known) => self.export = known,
            }
        }
        Ok(None)
    }

    /// Decodes the server's greeting, if it is there as a whole, and replies to it.
    fn greeting(&mut self, output: &mut Vec<u8>) -> Result<(), QueryError> {
        for (at, magic) in [(0, INIT_MAGIC), (8, OPTION_MAGIC)] {
            let is_there = self.input.len() >= at + 8;
            if is_there && u64::from_be_bytes(field(&self.input, at)) != magic {
                return Err(QueryError::NotNbd);
            }
        }
        if self.input.len() < length::GREETING {
            return Ok(());
        }
        let flags = u16::from_be_bytes(field(&self.input, 16));
        if flags & handshake_flag::FIXED_NEWSTYLE == 0 {
            return Err(QueryError::NotFixedNewstyle);
        }
        self.input.drain(..length::GREETING);
        self.is_greeted = true;
        output.extend(u32::from(handshake_flag::FIXED_NEWSTYLE).to_be_bytes());
        // The default export has an empty name; no information is requested beyond what each reply has.
        put_option(output, option::INFO, &[0; 6]);
        Ok(())
    }

    /// Type and data of the next reply, if it is there as a whole.
    fn reply(&mut self) -> Result<Option<(u32, Vec<u8>)>, QueryError> {
        if self.input.len() < length::OPTION_REPLY_HEADER {
            return Ok(None);
        }
        let magic = u64::from_be_bytes(field(&self.input, 0));
        let option = u32::from_be_bytes(field(&self.input, 8));
        let kind = u32::from_be_bytes(field(&self.input, 12));
        let data = u32::from_be_bytes(field(&self.input, 16));
        if magic != OPTION_REPLY_MAGIC || option != option::INFO {
            return Err(QueryError::NotAReply);
        }
        if data > LONGEST_REPLY {
            return Err(QueryError::LongReply(data));
        }
        let end = length::OPTION_REPLY_HEADER + data as usize;
        if self.input.len() < end {
            return Ok(None);
        }
        self.replies += 1;
        if self.replies > MOST_REPLIES {
            return Err(QueryError::ManyReplies);
        }
        let data = self.input.drain(..end).skip(length::OPTION_REPLY_HEADER);
        Ok(Some((kind, data.collect())))
    }
}

/// The data of an `NBD_INFO_EXPORT`.
fn parse_export(data: &[u8]) -> Option<ExportInfo> {
    let (kind, rest) = data.split_first_chunk()?;
    let (size, rest) = rest.split_first_chunk()?;
    let (flags, _) = rest.split_first_chunk()?;
    (u16::from_be_bytes(*kind) == info::EXPORT).then(|| ExportInfo {
        name: String::new(),
        size: u64::from_be_bytes(*size),
        is_read_only: u16::from_be_bytes(*flags) & transmission_flag::READ_ONLY != 0,
    })
}

fn put_option(output: &mut Vec<u8>, option: u32, data: &[u8]) {
    output.extend(OPTION_MAGIC.to_be_bytes());
    output.extend(option.to_be_bytes());
    // A few bytes.
    output.extend((data.len() as u32).to_be_bytes());
    output.extend(data);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{ClientMessage, Connection, Output};

    fn greeting(flags: u16) -> Vec<u8> {
        [b"NBDMAGICIHAVEOPT", &flags.to_be_bytes()[..]].concat()
    }

    fn reply(kind: u32, data: &[u8]) -> Vec<u8> {
        let mut reply = b"\0\x03\xe8\x89\x04\x55\x65\xa9\0\0\0\x06".to_vec();
        reply.extend(kind.to_be_bytes());
        reply.extend((data.len() as u32).to_be_bytes());
        reply.extend(data);
        reply
    }

    fn size(size: u64, flags: u16) -> Vec<u8> {
        let data = [&[0; 2], &size.to_be_bytes()[..], &flags.to_be_bytes()].concat();
        reply(option_reply::INFO, &data)
    }

    /// What a query makes of a server that sends these bytes, and what it sends itself.
    fn ask(parts: &[Vec<u8>]) -> (Result<Option<ExportInfo>, QueryError>, Vec<u8>) {
        let mut output = Vec::new();
        let whole = ExportQuery::default().receive(&parts.concat(), &mut output);
        let (mut query, mut sent) = (ExportQuery::default(), Vec::new());
        let mut bytes = parts.concat().into_iter();
        let byte_by_byte = loop {
            let Some(byte) = bytes.next() else {
                break Ok(None);
            };
            match query.receive(&[byte], &mut sent) {
                Ok(None) => {}
                done => break done,
            }
        };
        assert_eq!(byte_by_byte, whole);
        assert_eq!(sent, output);
        (whole, output)
    }

    #[test]
    fn the_default_export_is_asked_for() {
        // Block sizes (3) are not of interest.
        let sizes = reply(option_reply::INFO, &[&[0, 3], &[1; 12][..]].concat());
        let ack = reply(option_reply::ACK, &[]);
        let (result, sent) = ask(&[greeting(3), sizes, size(4096, 0x1ef), ack.clone()]);
        let expected = ExportInfo {
            name: String::new(),
            size: 4096,
            is_read_only: true,
        };
        assert_eq!(result, Ok(Some(expected)));
        let messages = [
            &b"\0\0\0\x01IHAVEOPT\0\0\0\x06\0\0\0\x06\0\0\0\0\0\0"[..],
            b"IHAVEOPT\0\0\0\x02\0\0\0\0",
        ];
        assert_eq!(sent, messages.concat());
        let (result, _) = ask(&[greeting(1), size(512, 1), ack]);
        assert!(!result.unwrap().unwrap().is_read_only);
    }

    #[test]
    fn other_servers_are_refused() {
        let ack = || reply(option_reply::ACK, &[]);
        let refused = || QueryError::Refused {
            number: 6,
            text: "no \"x\"".to_owned(),
        };
        for (parts, expected) in [
            (vec![b"HTTP/1.1".to_vec()], QueryError::NotNbd),
            (vec![b"NBDMAGICHTTP/1.1".to_vec()], QueryError::NotNbd),
            (vec![greeting(0)], QueryError::NotFixedNewstyle),
            (vec![greeting(1), ack()], QueryError::NoSize),
            (
                vec![greeting(1), reply(option_reply::ERROR | 6, b"no \"x\"")],
                refused(),
            ),
            (
                vec![greeting(1), reply(option_reply::INFO, &[0; 9000])],
                QueryError::LongReply(9000),
            ),
            (
                vec![greeting(1), reply(option_reply::INFO, &[0; 3]), ack()],
                QueryError::NoSize,
            ),
            (vec![greeting(1), vec![7; 100]], QueryError::NotAReply),
            (
                vec![greeting(1), size(512, 1).repeat(100)],
                QueryError::ManyReplies,
            ),
        ] {
            assert_eq!(ask(&parts).0, Err(expected));
        }
        assert_eq!(
            refused().to_string(),
            r#"it refuses its default export with error 6: `no \"x\"`"#
        );
        for parts in [vec![], vec![greeting(1), size(512, 1)]] {
            assert_eq!(ask(&parts).0, Ok(None), "the answer is not complete");
        }
    }

    #[test]
    fn our_own_server_answers() {
        let export = ExportInfo {
            name: "disk".to_owned(),
            size: 1 << 20,
            is_read_only: true,
        };
        let mut to_client = Output::default();
        let mut server = Connection::new(export.clone(), &mut to_client);
        let (mut query, mut to_server) = (ExportQuery::default(), Vec::new());
        let answer = loop {
            let answer = query.receive(to_client.bytes(), &mut to_server).unwrap();
            to_client.clear();
            let [_, space] = server.space();
            space[..to_server.len()].copy_from_slice(&to_server);
            server.received(to_server.len());
            to_server.clear();
            let incoming = server.next(&mut to_client).unwrap();
            if let Some(answer) = answer {
                assert_eq!(incoming, Some(ClientMessage::Disconnect));
                break answer;
            }
            assert_eq!(incoming, None);
        };
        assert_eq!((answer.size, answer.is_read_only), (1 << 20, true));
    }
}
