//! One client: its bytes go in, its requests come out.

use crate::handshake::{ExportInfo, Handshake, Progress};
use crate::output::Output;
use crate::request::{self, Header, Refusal, Request, RequestKind, Session};
use crate::violation::Violation;
use crate::wire::length;

/// The size of the staging buffer, bytes: it holds the longest option, or several requests with their data.
const STAGING: usize = 32 << 10;

/// The longest buffer for data that is kept for later writes, bytes.
const KEPT: usize = 2 << 20;

/// A message of a client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClientMessage {
    /// A request. The data of a write is [`Connection::data`].
    Request(Request),
    /// The client disconnects with `NBD_CMD_DISC` or `NBD_OPT_ABORT`: its earlier requests are still carried
    /// out and answered, and then the connection is closed.
    Disconnect,
}

/// The server's end of a connection.
///
/// The caller reads from its socket into [`space`](Self::space), reports how much with [`received`](Self::received),
/// takes each message with [`next`](Self::next), and sends what is in the [`Output`] then.
#[derive(Debug)]
pub struct Connection {
    phase: Phase,
    /// Bytes from `start` to `end` are received and not taken yet.
    staging: Box<[u8]>,
    start: usize,
    end: usize,
    /// Of the latest write. It is longer than the data when an earlier write was.
    data: Vec<u8>,
    data_length: usize,
}

#[derive(Debug)]
enum Phase {
    Handshake(Handshake),
    /// A header is next.
    Request(Session),
    /// The first `filled` bytes of the data of a write are there.
    Data {
        session: Session,
        request: Request,
        filled: usize,
    },
    /// The data of a write that is refused afterwards.
    Skip {
        session: Session,
        refusal: Refusal,
        left: usize,
    },
    /// Further bytes are discarded.
    Ended,
}

impl Connection {
    /// Greets a client.
    pub fn new(export: ExportInfo, output: &mut Output) -> Self {
        Self {
            phase: Phase::Handshake(Handshake::new(export, output)),
            staging: vec![0; STAGING].into_boxed_slice(),
            start: 0,
            end: 0,
            data: Vec::new(),
            data_length: 0,
        }
    }

    /// The buffers for the next bytes, to be filled in this order; the second one is not empty. Call
    /// [`next`](Self::next) until it returns `None` before.
    pub fn space(&mut self) -> [&mut [u8]; 2] {
        self.staging.copy_within(self.start..self.end, 0);
        self.end -= self.start;
        self.start = 0;
        let data = match self.phase {
            Phase::Data { filled, .. } => &mut self.data[filled..self.data_length],
            _ => &mut [],
        };
        [data, &mut self.staging[self.end..]]
    }

    /// `count` bytes have been put into [`space`](Self::space).
    ///
    /// # Panics
    /// If that is more than there was space for.
    pub fn received(&mut self, mut count: usize) {
        if let Phase::Data { filled, .. } = &mut self.phase {
            let direct = count.min(self.data_length - *filled);
            *filled += direct;
            count -= direct;
        }
        self.end += count;
        assert!(self.end <= self.staging.len(), "more bytes than fit");
    }

    /// The next message of the client, if it is there as a whole. Options are answered, and requests that cannot be
    /// carried out are refused, in the output.
    ///
    /// # Errors
    /// The caller must close the connection after it has sent the output.
    pub fn next(&mut self, output: &mut Output) -> Result<Option<ClientMessage>, Violation> {
        let result = self.try_next(output);
        if matches!(result, Err(_) | Ok(Some(ClientMessage::Disconnect))) {
            self.phase = Phase::Ended;
        }
        result
    }

    /// The data of the write that [`next`](Self::next) has just returned.
    pub fn data(&self) -> &[u8] {
        &self.data[..self.data_length]
    }

    /// Takes that data out, for a write that is carried out later.
    pub fn take_data(&mut self) -> Vec<u8> {
        let mut data = std::mem::take(&mut self.data);
        data.truncate(std::mem::take(&mut self.data_length));
        data
    }

    fn try_next(&mut self, output: &mut Output) -> Result<Option<ClientMessage>, Violation> {
        loop {
            let input = &self.staging[self.start..self.end];
            match &mut self.phase {
                Phase::Ended => {
                    // So that there is space for further bytes.
                    self.start = self.end;
                    return Ok(None);
                }
                Phase::Handshake(handshake) => match handshake.advance(input, output)? {
                    Progress::Wait => return Ok(None),
                    Progress::Used(used) => self.start += used,
                    Progress::Begin(used, session) => {
                        self.start += used;
                        self.phase = Phase::Request(session);
                    }
                    Progress::Abort => return Ok(Some(ClientMessage::Disconnect)),
                },
                Phase::Request(session) => {
                    let session = *session;
                    let Some(header) = input.first_chunk::<{ length::REQUEST }>() else {
                        return Ok(None);
                    };
                    let header = request::decode(session, header)?;
                    self.start += length::REQUEST;
                    if let Some(message) = self.take_header(session, header) {
                        return Ok(Some(message));
                    }
                }
                Phase::Data {
                    session,
                    request,
                    filled,
                } => {
                    let missing = &mut self.data[*filled..self.data_length];
                    let count = missing.len().min(input.len());
                    missing[..count].copy_from_slice(&input[..count]);
                    *filled += count;
                    self.start += count;
                    if *filled < self.data_length {
                        return Ok(None);
                    }
                    let request = *request;
                    self.phase = Phase::Request(*session);
                    return Ok(Some(ClientMessage::Request(request)));
                }
                Phase::Skip {
                    session,
                    refusal,
                    left,
                } => {
                    let count = input.len().min(*left);
                    *left -= count;
                    self.start += count;
                    if *left > 0 {
                        return Ok(None);
                    }
                    let Refusal {
                        cookie,
                        offset,
                        error,
                    } = *refusal;
                    output.put_error(cookie, session.is_structured, offset, error);
                    self.phase = Phase::Request(*session);
                }
            }
        }
    }

    /// What the caller gets for a header at once; `None`: its data has to be received first.
    fn take_header(&mut self, session: Session, header: Header) -> Option<ClientMessage> {
        match header {
            Header::Disconnect => Some(ClientMessage::Disconnect),
            Header::Accepted(request) if request.kind == RequestKind::Write => {
                self.expect_data(session, request);
                None
            }
            Header::Accepted(request) => Some(ClientMessage::Request(request)),
            Header::Refused { refusal, data } => {
                self.phase = Phase::Skip {
                    session,
                    refusal,
                    left: data as usize,
                };
                None
            }
        }
    }

    /// Makes a buffer for the data of a write. Its length has been checked.
    fn expect_data(&mut self, session: Session, request: Request) {
        self.data_length = request.length as usize;
        if self.data.len() < self.data_length {
            // The kernel provides the zeroed pages when they are first written.
            self.data = vec![0; self.data_length];
        } else if self.data.len() > KEPT && self.data_length <= KEPT {
            self.data.truncate(KEPT);
            self.data.shrink_to_fit();
        }
        self.phase = Phase::Data {
            session,
            request,
            filled: 0,
        };
    }
}
