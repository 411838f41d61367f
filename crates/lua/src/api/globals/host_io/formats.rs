//! The formats of Lua's `file:read`.

use super::source::Reader;
use crate::binding::args::Args;
use crate::binding::raise::LuaError;
use crate::engine::memory::MEMORY_LIMIT;
use mlua::Value;
use std::io;

/// Longest text of a number.
const MAX_NUMERAL: usize = 200;

/// What to read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Format {
    /// A line, with or without its end.
    Line {
        end: bool,
    },
    All,
    Number,
    Count(usize),
}

/// The formats in a call's arguments; none is a line.
pub(super) fn formats(args: &Args) -> Result<Vec<Format>, LuaError> {
    let bad = || LuaError::argument("bad argument (invalid format)");
    let one = |value: &Value| match value {
        Value::String(text) => {
            let text = text.as_bytes();
            match text.strip_prefix(b"*").unwrap_or(&text).first() {
                Some(b'l') => Ok(Format::Line { end: false }),
                Some(b'L') => Ok(Format::Line { end: true }),
                Some(b'a') => Ok(Format::All),
                Some(b'n') => Ok(Format::Number),
                _ => Err(bad()),
            }
        }
        number => {
            let count = crate::binding::values::integer_of(number).map_err(|_| bad())?;
            usize::try_from(count).map(Format::Count).map_err(|_| bad())
        }
    };
    let given: Vec<Format> = args.values().iter().map(one).collect::<Result<_, _>>()?;
    Ok(match given.is_empty() {
        true => vec![Format::Line { end: false }],
        false => given,
    })
}

/// What a format reads; nothing at the end.
pub(super) async fn read(reader: &mut Reader, format: Format) -> io::Result<Option<Vec<u8>>> {
    match format {
        Format::Line { end } => line(reader, end).await,
        Format::All => {
            while reader.more().await? {
                within_memory(reader)?;
            }
            Ok(Some(reader.take(reader.held().len())))
        }
        Format::Count(0) => {
            let there_is = !reader.held().is_empty() || reader.more().await?;
            Ok(there_is.then(Vec::new))
        }
        Format::Count(count) => {
            while reader.held().len() < count && reader.more().await? {
                within_memory(reader)?;
            }
            let count = count.min(reader.held().len());
            Ok((count > 0).then(|| reader.take(count)))
        }
        Format::Number => number(reader).await,
    }
}

fn within_memory(reader: &Reader) -> io::Result<()> {
    if reader.held().len() > MEMORY_LIMIT / 2 {
        return Err(io::Error::from(io::ErrorKind::OutOfMemory));
    }
    Ok(())
}

async fn line(reader: &mut Reader, with_end: bool) -> io::Result<Option<Vec<u8>>> {
    let mut looked = 0;
    loop {
        if let Some(at) = memchr::memchr(b'\n', &reader.held()[looked..]) {
            let mut line = reader.take(looked + at + 1);
            if !with_end {
                line.pop();
            }
            return Ok(Some(line));
        }
        looked = reader.held().len();
        within_memory(reader)?;
        if !reader.more().await? {
            let rest = reader.take(looked);
            return Ok(Some(rest).filter(|rest| !rest.is_empty()));
        }
    }
}

/// The text of a number, as far as it can be one (`l_read_number`).
async fn number(reader: &mut Reader) -> io::Result<Option<Vec<u8>>> {
    while peek(reader)
        .await?
        .is_some_and(|c| matches!(c, b' ' | b'\t'..=b'\r'))
    {
        reader.take(1);
    }
    let mut text = Vec::new();
    accept(reader, &mut text, b"+-").await?;
    let mut digits: &[u8] = b"0123456789";
    let mut exponent: &[u8] = b"eE";
    let mut count = 0;
    if accept(reader, &mut text, b"0").await? {
        if accept(reader, &mut text, b"xX").await? {
            digits = b"0123456789abcdefABCDEF";
            exponent = b"pP";
        } else {
            count = 1;
        }
    }
    while accept(reader, &mut text, digits).await? {
        count += 1;
    }
    if accept(reader, &mut text, b".").await? {
        while accept(reader, &mut text, digits).await? {
            count += 1;
        }
    }
    if count > 0 && accept(reader, &mut text, exponent).await? {
        accept(reader, &mut text, b"+-").await?;
        while accept(reader, &mut text, b"0123456789").await? {}
    }
    Ok(Some(text))
}

async fn peek(reader: &mut Reader) -> io::Result<Option<u8>> {
    if reader.held().is_empty() {
        reader.more().await?;
    }
    Ok(reader.held().first().copied())
}

async fn accept(reader: &mut Reader, text: &mut Vec<u8>, set: &[u8]) -> io::Result<bool> {
    match peek(reader).await? {
        Some(c) if set.contains(&c) && text.len() < MAX_NUMERAL => {
            text.extend(reader.take(1));
            Ok(true)
        }
        _ => Ok(false),
    }
}
