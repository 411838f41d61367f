//! Values of msgpack: numbers, text, bytes, lists. Which of them a message has, [`decode`](crate::decode) knows.
//!
//! Format: <https://github.com/msgpack/msgpack/blob/master/spec.md>.

use serde::de::{Expected, Unexpected};
use std::fmt;

/// How deep a message may be nested; none of ours comes near.
const DEPTH: u32 = 64;

/// What is wrong with the bytes.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MsgpackError {
    /// They end too soon, or a length is longer than they are.
    #[error("it ends too soon")]
    Short,
    /// Something else follows the message.
    #[error("{0} bytes follow it")]
    Trailing(usize),
    /// It is nested too deeply.
    #[error("it is nested too deeply")]
    Deep,
    /// Its lists have more elements than allowed.
    #[error("it has more values than allowed")]
    TooMany,
    /// A value is not of the kind that is expected.
    #[error("expected {0}, found the byte {1:#04x}")]
    Unexpected(&'static str, u8),
    /// The message's type does not accept it.
    #[error("{0}")]
    Rejected(String),
}

impl serde::de::Error for MsgpackError {
    fn custom<T: fmt::Display>(message: T) -> Self {
        Self::Rejected(message.to_string())
    }

    // Serde's own words for these describe every kind of value there is, floats included, and so
    // bring along the code that prints them.

    fn invalid_type(_: Unexpected<'_>, expected: &dyn Expected) -> Self {
        Self::Rejected(format!("expected {expected}"))
    }

    fn invalid_value(_: Unexpected<'_>, expected: &dyn Expected) -> Self {
        Self::Rejected(format!("expected {expected}"))
    }
}

pub(super) type Result<T> = std::result::Result<T, MsgpackError>;

/// A whole number.
pub(super) enum Number {
    Unsigned(u64),
    Signed(i64),
}

/// What is left of the message.
pub(super) struct Reader<'a> {
    rest: &'a [u8],
    depth: u32,
    /// Elements that lists may still have.
    budget: usize,
}

impl<'a> Reader<'a> {
    /// A reader of a message whose lists have `budget` elements in all at most.
    pub(super) fn new(bytes: &'a [u8], budget: usize) -> Self {
        Self {
            rest: bytes,
            depth: 0,
            budget,
        }
    }

    /// An error if bytes are left.
    pub(super) fn finish(&self) -> Result<()> {
        match self.rest.len() {
            0 => Ok(()),
            count => Err(MsgpackError::Trailing(count)),
        }
    }

    fn take(&mut self, count: usize) -> Result<&'a [u8]> {
        let (taken, rest) = self
            .rest
            .split_at_checked(count)
            .ok_or(MsgpackError::Short)?;
        self.rest = rest;
        Ok(taken)
    }

    pub(super) fn peek(&self) -> Result<u8> {
        self.rest.first().copied().ok_or(MsgpackError::Short)
    }

    pub(super) fn byte(&mut self) -> Result<u8> {
        Ok(self.take(1)?[0])
    }

    /// A big-endian number of `width` bytes.
    fn big_endian(&mut self, width: usize) -> Result<u64> {
        Ok(self
            .take(width)?
            .iter()
            .fold(0, |number, byte| number << 8 | u64::from(*byte)))
    }

    pub(super) fn number(&mut self) -> Result<Number> {
        let marker = self.byte()?;
        Ok(match marker {
            0x00..=0x7f => Number::Unsigned(u64::from(marker)),
            0xe0..=0xff => Number::Signed(i64::from(marker.cast_signed())),
            0xcc..=0xcf => Number::Unsigned(self.big_endian(1 << (marker - 0xcc))?),
            0xd0..=0xd3 => {
                let width = 1 << (marker - 0xd0);
                // Shifted up and down again, the sign fills what the number leaves free.
                let unused = 64 - 8 * width;
                let raw = self.big_endian(width as usize)? << unused;
                Number::Signed(raw.cast_signed() >> unused)
            }
            _ => return Err(MsgpackError::Unexpected("a number", marker)),
        })
    }

    /// The length of what the marker begins; lengths of 8, 16 and 32 bits go with markers in a row
    /// from `first`, of which `widths` says how wide each is.
    fn length(&mut self, marker: u8, first: u8, widths: &[usize]) -> Result<Option<usize>> {
        let Some(width) = widths.get(usize::from(marker.wrapping_sub(first))) else {
            return Ok(None);
        };
        let length = self.big_endian(*width)?;
        usize::try_from(length)
            .map(Some)
            .map_err(|_| MsgpackError::Short)
    }

    pub(super) fn text(&mut self) -> Result<&'a str> {
        let marker = self.byte()?;
        let length = match marker {
            0xa0..=0xbf => usize::from(marker & 0x1f),
            _ => self
                .length(marker, 0xd9, &[1, 2, 4])?
                .ok_or(MsgpackError::Unexpected("text", marker))?,
        };
        let bytes = self.take(length)?;
        std::str::from_utf8(bytes).map_err(|_| MsgpackError::Rejected("text is not UTF-8".into()))
    }

    pub(super) fn bytes(&mut self) -> Result<&'a [u8]> {
        let marker = self.byte()?;
        let length = self
            .length(marker, 0xc4, &[1, 2, 4])?
            .ok_or(MsgpackError::Unexpected("bytes", marker))?;
        self.take(length)
    }

    /// How many values the list that begins here has. Each takes a byte at least, so a longer list
    /// than there are bytes is refused before anything is made for it.
    pub(super) fn list(&mut self) -> Result<usize> {
        let marker = self.byte()?;
        let count = match marker {
            0x90..=0x9f => usize::from(marker & 0x0f),
            _ => self
                .length(marker, 0xdc, &[2, 4])?
                .ok_or(MsgpackError::Unexpected("a list", marker))?,
        };
        if count > self.rest.len() {
            return Err(MsgpackError::Short);
        }
        self.budget = self
            .budget
            .checked_sub(count)
            .ok_or(MsgpackError::TooMany)?;
        Ok(count)
    }

    /// Runs `read` one level deeper.
    pub(super) fn nested<T>(&mut self, read: impl FnOnce(&mut Self) -> Result<T>) -> Result<T> {
        if self.depth == DEPTH {
            return Err(MsgpackError::Deep);
        }
        self.depth += 1;
        let result = read(self);
        self.depth -= 1;
        result
    }
}
