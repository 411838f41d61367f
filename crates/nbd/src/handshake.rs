//! The handshake: section *Newstyle negotiation* and *Fixed newstyle negotiation*; the options in *Option types*.

use crate::output::Output;
use crate::request::Session;
use crate::violation::Violation;
use crate::wire::{
    INIT_MAGIC, MAX_OPTION, MAX_REQUEST, OPTION_MAGIC, OPTION_REPLY_MAGIC, PREFERRED_BLOCK, SECTOR,
    field, handshake_flag, info, length, option, option_reply, transmission_flag,
};

/// What is exported.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExportInfo {
    /// The name by which a client asks for it; the empty name means it as well.
    pub name: String,
    /// Its size, bytes.
    pub size: u64,
    /// Whether writes are refused.
    pub is_read_only: bool,
}

/// The state of a handshake.
#[derive(Debug)]
pub(crate) struct Handshake {
    export: ExportInfo,
    step: Step,
    is_fixed: bool,
    no_zeroes: bool,
    is_structured: bool,
}

/// What is expected next.
#[derive(Debug, Clone, Copy)]
enum Step {
    ClientFlags,
    Option,
    /// The rest of an option that is too long, which is answered at its end.
    Skip {
        option: u32,
        left: u32,
    },
}

/// The result of a step.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Progress {
    /// The input does not hold a whole message yet.
    Wait,
    /// This number of bytes was consumed.
    Used(usize),
    /// This number of bytes was consumed, and requests follow.
    Begin(usize, Session),
    /// The client disconnects.
    Abort,
}

impl Handshake {
    /// Greets a client.
    pub(crate) fn new(export: ExportInfo, output: &mut Output) -> Self {
        let flags = handshake_flag::FIXED_NEWSTYLE | handshake_flag::NO_ZEROES;
        output.put(&INIT_MAGIC.to_be_bytes());
        output.put(&OPTION_MAGIC.to_be_bytes());
        output.put(&flags.to_be_bytes());
        Self {
            export,
            step: Step::ClientFlags,
            is_fixed: false,
            no_zeroes: false,
            is_structured: false,
        }
    }

    /// Takes the next message from the beginning of the input.
    pub(crate) fn advance(
        &mut self,
        input: &[u8],
        output: &mut Output,
    ) -> Result<Progress, Violation> {
        match self.step {
            Step::ClientFlags => self.client_flags(input),
            Step::Option => self.option(input, output),
            Step::Skip { option, left } => {
                let used = input.len().min(left as usize);
                // `used` is at most `left`.
                let left = left - used as u32;
                self.step = Step::Skip { option, left };
                if left == 0 {
                    reply(output, option, option_reply::ERR_TOO_BIG, &[]);
                    self.step = Step::Option;
                } else if used == 0 {
                    return Ok(Progress::Wait);
                }
                Ok(Progress::Used(used))
            }
        }
    }

    fn client_flags(&mut self, input: &[u8]) -> Result<Progress, Violation> {
        if input.len() < length::CLIENT_FLAGS {
            return Ok(Progress::Wait);
        }
        let flags = u32::from_be_bytes(field(input, 0));
        let fixed = u32::from(handshake_flag::FIXED_NEWSTYLE);
        let no_zeroes = u32::from(handshake_flag::NO_ZEROES);
        if flags & !(fixed | no_zeroes) != 0 {
            return Err(Violation::ClientFlags(flags));
        }
        self.is_fixed = flags & fixed != 0;
        self.no_zeroes = flags & no_zeroes != 0;
        self.step = Step::Option;
        Ok(Progress::Used(length::CLIENT_FLAGS))
    }

    fn option(&mut self, input: &[u8], output: &mut Output) -> Result<Progress, Violation> {
        if input.len() < length::OPTION_HEADER {
            return Ok(Progress::Wait);
        }
        let magic = u64::from_be_bytes(field(input, 0));
        let option = u32::from_be_bytes(field(input, 8));
        let data = u32::from_be_bytes(field(input, 12));
        if magic != OPTION_MAGIC {
            return Err(Violation::OptionMagic(magic));
        }
        if option != option::EXPORT_NAME && !self.is_fixed {
            return Err(Violation::NotFixedNewstyle(option));
        }
        if data > MAX_OPTION {
            if option == option::EXPORT_NAME {
                return Err(Violation::UnknownExport);
            }
            self.step = Step::Skip { option, left: data };
            return Ok(Progress::Used(length::OPTION_HEADER));
        }
        let used = length::OPTION_HEADER + data as usize;
        let Some(data) = input.get(length::OPTION_HEADER..used) else {
            return Ok(Progress::Wait);
        };
        match option {
            option::EXPORT_NAME => {
                if !self.is_name(data) {
                    return Err(Violation::UnknownExport);
                }
                self.describe_without_reply(output);
                return Ok(Progress::Begin(used, self.session()));
            }
            option::ABORT => {
                reply(output, option, option_reply::ACK, &[]);
                return Ok(Progress::Abort);
            }
            option::LIST => self.list(data, output),
            option::INFO | option::GO => {
                if self.describe(option, data, output) && option == option::GO {
                    return Ok(Progress::Begin(used, self.session()));
                }
            }
            option::STRUCTURED_REPLY => {
                self.is_structured |= data.is_empty();
                reply(output, option, ack_if(data.is_empty()), &[]);
            }
            _ => reply(output, option, option_reply::ERR_UNSUP, &[]),
        }
        Ok(Progress::Used(used))
    }

    fn list(&self, data: &[u8], output: &mut Output) {
        if data.is_empty() {
            let name = self.export.name.as_bytes();
            // A name is a few bytes, and at most what an option may have.
            let mut entry = (name.len() as u32).to_be_bytes().to_vec();
            entry.extend_from_slice(name);
            reply(output, option::LIST, option_reply::SERVER, &entry);
        }
        reply(output, option::LIST, ack_if(data.is_empty()), &[]);
    }

    /// The answer to `EXPORT_NAME`, which has no header.
    fn describe_without_reply(&self, output: &mut Output) {
        output.put(&self.export.size.to_be_bytes());
        output.put(&self.transmission_flags().to_be_bytes());
        if !self.no_zeroes {
            output.put(&[0; length::ZEROES]);
        }
    }

    /// The answer to `INFO` and `GO`: the size, the flags, the sizes of blocks, and the name if the client wants it.
    /// Returns whether the client may begin.
    fn describe(&self, option: u32, data: &[u8], output: &mut Output) -> bool {
        let Some((name, wanted)) = parse_info(data) else {
            reply(output, option, option_reply::ERR_INVALID, &[]);
            return false;
        };
        if !self.is_name(name) {
            reply(output, option, option_reply::ERR_UNKNOWN, &[]);
            return false;
        }
        let mut export = info::EXPORT.to_be_bytes().to_vec();
        export.extend_from_slice(&self.export.size.to_be_bytes());
        export.extend_from_slice(&self.transmission_flags().to_be_bytes());
        reply(output, option, option_reply::INFO, &export);
        let mut sizes = info::BLOCK_SIZE.to_be_bytes().to_vec();
        for size in [SECTOR, PREFERRED_BLOCK, MAX_REQUEST] {
            sizes.extend_from_slice(&size.to_be_bytes());
        }
        reply(output, option, option_reply::INFO, &sizes);
        let mut wanted = wanted.chunks_exact(2);
        if wanted.any(|kind| kind == info::NAME.to_be_bytes()) {
            let mut name = info::NAME.to_be_bytes().to_vec();
            name.extend_from_slice(self.export.name.as_bytes());
            reply(output, option, option_reply::INFO, &name);
        }
        reply(output, option, option_reply::ACK, &[]);
        true
    }

    fn is_name(&self, name: &[u8]) -> bool {
        name.is_empty() || name == self.export.name.as_bytes()
    }

    fn transmission_flags(&self) -> u16 {
        use transmission_flag as flag;
        let mut flags = flag::HAS_FLAGS
            | flag::SEND_FLUSH
            | flag::SEND_FUA
            | flag::SEND_TRIM
            | flag::SEND_WRITE_ZEROES
            | flag::SEND_FAST_ZERO
            | flag::CAN_MULTI_CONN;
        if self.export.is_read_only {
            flags |= flag::READ_ONLY;
        }
        if self.is_structured {
            flags |= flag::SEND_DF;
        }
        flags
    }

    fn session(&self) -> Session {
        Session {
            size: self.export.size,
            is_read_only: self.export.is_read_only,
            is_structured: self.is_structured,
        }
    }
}

/// The name and the wanted types of information in an `INFO` or `GO`, two bytes each.
fn parse_info(data: &[u8]) -> Option<(&[u8], &[u8])> {
    let (name_length, rest) = data.split_first_chunk()?;
    let name_length = u32::from_be_bytes(*name_length) as usize;
    let (name, rest) = rest.split_at_checked(name_length)?;
    let (count, wanted) = rest.split_first_chunk()?;
    let count = usize::from(u16::from_be_bytes(*count));
    (wanted.len() == 2 * count).then_some((name, wanted))
}

/// The reply to an option that is valid, or not.
fn ack_if(is_valid: bool) -> u32 {
    if is_valid {
        option_reply::ACK
    } else {
        option_reply::ERR_INVALID
    }
}

fn reply(output: &mut Output, option: u32, kind: u32, data: &[u8]) {
    output.put(&OPTION_REPLY_MAGIC.to_be_bytes());
    output.put(&option.to_be_bytes());
    output.put(&kind.to_be_bytes());
    // Data is a name or less: a few bytes.
    output.put(&(data.len() as u32).to_be_bytes());
    output.put(data);
}
