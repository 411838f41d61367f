//! Bytes to messages and back, without I/O.

use std::fmt;

use serde::Deserialize;
use serde_json::Value;

/// The longest line that is taken, bytes. The longest that QEMU sends in answer to our commands
/// (`query-qmp-schema`) is about 200 KiB; guest data never travels in QMP.
pub const MAX_LINE: usize = 8 << 20;

/// What the server says first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Greeting {
    /// QEMU's version.
    pub version: Version,
    /// Whether commands can overtake others (`oob`).
    pub out_of_band: bool,
}

/// A version of QEMU, as in `7.2.22`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
pub struct Version {
    /// First number.
    pub major: u32,
    /// Second number.
    pub minor: u32,
    /// Third number.
    pub micro: u32,
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.major, self.minor, self.micro)
    }
}

/// Something that happened in the machine.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct Event {
    /// Which, as in `SHUTDOWN`.
    #[serde(rename = "event")]
    pub name: String,
    /// Its members, an object; null if it has none.
    #[serde(default)]
    pub data: Value,
}

/// QEMU's refusal of a command.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, thiserror::Error)]
#[error("{description}")]
pub struct CommandError {
    /// `GenericError`, `CommandNotFound` and a few more.
    pub class: String,
    /// For people.
    #[serde(rename = "desc")]
    pub description: String,
}

/// One message of the server.
#[derive(Clone, Debug, PartialEq)]
pub enum ServerMessage {
    /// The first one.
    Greeting(Greeting),
    /// The answer to the command with this id. An error that QEMU could not tie to a command has no
    /// id.
    Reply {
        /// The command's id.
        id: Option<u64>,
        /// What it returned.
        result: Result<Value, CommandError>,
    },
    /// Something that happened.
    Event(Event),
}

/// Why bytes are not QMP.
#[derive(Debug, thiserror::Error)]
pub enum CodecError {
    /// A line that does not end.
    #[error("a line is longer than {MAX_LINE} bytes")]
    TooLong,
    /// A line that is not JSON, or JSON that is not a QMP message.
    #[error("`{line}` is not a QMP message")]
    Malformed {
        /// Its beginning.
        line: String,
        /// What is wrong with it.
        source: serde_json::Error,
    },
}

/// Splits a byte stream into messages.
#[derive(Debug, Default)]
pub struct Decoder {
    buffer: Vec<u8>,
    /// Bytes of `buffer` known to hold no line end.
    searched: usize,
}

impl Decoder {
    /// Takes bytes as they come, in pieces of any size.
    pub fn feed(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// The next message, if a whole one is there.
    ///
    /// # Errors
    /// A stream that gave an error is beyond repair: what follows has no known meaning.
    pub fn next_message(&mut self) -> Result<Option<ServerMessage>, CodecError> {
        loop {
            let Some(at) = self.buffer[self.searched..]
                .iter()
                .position(|byte| *byte == b'\n')
            else {
                self.searched = self.buffer.len();
                if self.searched > MAX_LINE {
                    return Err(CodecError::TooLong);
                }
                return Ok(None);
            };
            let end = self.searched + at;
            if end > MAX_LINE {
                return Err(CodecError::TooLong);
            }
            let line: Vec<u8> = self.buffer.drain(..=end).collect();
            self.searched = 0;
            let line = line.trim_ascii();
            if !line.is_empty() {
                return parse(line).map(Some);
            }
        }
    }
}

/// A command as the server takes it, line end included. `arguments` is an object, or null for none.
pub fn encode_command(id: u64, name: &str, arguments: &Value) -> Vec<u8> {
    let mut command = serde_json::json!({ "execute": name, "id": id });
    if !arguments.is_null() {
        command["arguments"] = arguments.clone();
    }
    let mut line = command.to_string().into_bytes();
    line.push(b'\n');
    line
}

fn parse(line: &[u8]) -> Result<ServerMessage, CodecError> {
    serde_json::from_slice::<Message>(line)
        .map(Message::into_incoming)
        .map_err(|source| {
            let shown = line.get(..200).unwrap_or(line);
            CodecError::Malformed {
                line: String::from_utf8_lossy(shown).into_owned(),
                source,
            }
        })
}

/// The forms of a message. Each is known by a member that the others lack.
#[derive(Deserialize)]
#[serde(untagged)]
enum Message {
    Greeting {
        #[serde(rename = "QMP")]
        qmp: Qmp,
    },
    Event(Event),
    Error {
        error: CommandError,
        id: Option<u64>,
    },
    Return {
        #[serde(rename = "return")]
        value: Value,
        id: Option<u64>,
    },
}

#[derive(Deserialize)]
struct Qmp {
    version: QmpVersion,
    capabilities: Vec<Value>,
}

#[derive(Deserialize)]
struct QmpVersion {
    qemu: Version,
}

impl Message {
    fn into_incoming(self) -> ServerMessage {
        match self {
            Message::Greeting { qmp } => ServerMessage::Greeting(Greeting {
                version: qmp.version.qemu,
                out_of_band: qmp
                    .capabilities
                    .iter()
                    .any(|capability| capability == "oob"),
            }),
            Message::Event(event) => ServerMessage::Event(event),
            Message::Error { error, id } => ServerMessage::Reply {
                id,
                result: Err(error),
            },
            Message::Return { value, id } => ServerMessage::Reply {
                id,
                result: Ok(value),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GREETING: &str = concat!(
        r#"{"QMP": {"version": {"qemu": {"micro": 22, "minor": 2, "major": 7}, "#,
        r#""package": "Debian 1:7.2+dfsg-7"}, "capabilities": ["oob"]}}"#,
        "\r\n"
    );

    fn decode(bytes: &[u8]) -> Vec<ServerMessage> {
        let mut decoder = Decoder::default();
        decoder.feed(bytes);
        std::iter::from_fn(|| decoder.next_message().unwrap()).collect()
    }

    #[test]
    fn every_kind_of_message_is_known() {
        let bytes = format!(
            "{GREETING}{}\r\n{}\r\n\r\n{}\r\n{}\r\n",
            r#"{"return": {}, "id": 7}"#,
            r#"{"timestamp": {"seconds": 1, "microseconds": 2}, "event": "RESET", "data": {"guest": true, "reason": "guest-reset"}}"#,
            r#"{"timestamp": {"seconds": 1, "microseconds": 2}, "event": "STOP"}"#,
            r#"{"error": {"class": "GenericError", "desc": "no"}}"#,
        );
        let refused = CommandError {
            class: "GenericError".into(),
            description: "no".into(),
        };
        assert_eq!(
            decode(bytes.as_bytes()),
            [
                ServerMessage::Greeting(Greeting {
                    version: Version {
                        major: 7,
                        minor: 2,
                        micro: 22
                    },
                    out_of_band: true
                }),
                ServerMessage::Reply {
                    id: Some(7),
                    result: Ok(serde_json::json!({}))
                },
                ServerMessage::Event(Event {
                    name: "RESET".into(),
                    data: serde_json::json!({"guest": true, "reason": "guest-reset"}),
                }),
                ServerMessage::Event(Event {
                    name: "STOP".into(),
                    data: Value::Null
                }),
                ServerMessage::Reply {
                    id: None,
                    result: Err(refused)
                },
            ]
        );
    }

    #[test]
    fn pieces_of_any_size_give_the_same_messages() {
        let bytes = [GREETING, "{\"return\": {}, \"id\": 1}\n"].concat();
        let whole = decode(bytes.as_bytes());
        let mut decoder = Decoder::default();
        let mut pieced = Vec::new();
        for byte in bytes.as_bytes() {
            decoder.feed(&[*byte]);
            pieced.extend(decoder.next_message().unwrap());
        }
        assert_eq!((whole.len(), &whole), (2, &pieced));
    }

    #[test]
    fn a_malformed_message_is_shown() {
        let mut decoder = Decoder::default();
        decoder.feed(b"(process:1): GLib-CRITICAL\n");
        let error = decoder.next_message().unwrap_err();
        assert_eq!(
            error.to_string(),
            "`(process:1): GLib-CRITICAL` is not a QMP message"
        );
        decoder.feed(b"{\"neither\": 1}\n");
        assert!(decoder.next_message().is_err());
    }

    #[test]
    fn a_line_without_end_is_refused() {
        let mut decoder = Decoder::default();
        decoder.feed(&vec![b' '; MAX_LINE]);
        assert!(decoder.next_message().unwrap().is_none());
        decoder.feed(b"  ");
        assert!(matches!(decoder.next_message(), Err(CodecError::TooLong)));
    }

    #[test]
    fn commands_are_one_line() {
        let line = encode_command(3, "stop", &Value::Null);
        assert_eq!(line, b"{\"execute\":\"stop\",\"id\":3}\n");
        let line = encode_command(4, "getfd", &serde_json::json!({"fdname": "a\nb"}));
        assert_eq!(line.iter().filter(|byte| **byte == b'\n').count(), 1);
    }
}
