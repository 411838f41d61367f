//! The decoder behind [`codec`](crate::codec): messages of this crate from the values of [msgpack](crate::msgpack).
//!
//! The guest's agent carries it, so it is small: a general decoder tries every shape for every type,
//! and came to a quarter of the agent. This one knows which shape each type has: structs are arrays,
//! variants are a name, or a map of the name to what is in it. Nothing else is accepted.

use crate::msgpack::{MsgpackError, Number, Reader, Result};
use serde::de::{
    DeserializeOwned, DeserializeSeed, Deserializer, EnumAccess, Error as _, SeqAccess,
    VariantAccess, Visitor,
};
use serde::forward_to_deserialize_any;

/// The message that is all of `bytes`, whose lists have `budget` elements in all at most.
pub(crate) fn from_slice_bounded<T: DeserializeOwned>(bytes: &[u8], budget: usize) -> Result<T> {
    let mut reader = Reader::new(bytes, budget);
    let message = T::deserialize(&mut reader)?;
    reader.finish()?;
    Ok(message)
}

impl Reader<'_> {
    fn visit_list<'de, V: Visitor<'de>>(&mut self, visitor: V) -> Result<V::Value> {
        let left = self.list()?;
        self.nested(|reader| {
            let mut list = List { reader, left };
            let value = visitor.visit_seq(&mut list)?;
            match list.left {
                0 => Ok(value),
                left => Err(MsgpackError::invalid_length(left, &"a shorter list")),
            }
        })
    }

    fn visit_number<'de, V: Visitor<'de>>(&mut self, visitor: V) -> Result<V::Value> {
        match self.number()? {
            Number::Unsigned(number) => visitor.visit_u64(number),
            Number::Signed(number) => visitor.visit_i64(number),
        }
    }
}

macro_rules! numbers {
    ($($method:ident)*) => {$(
        fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value> {
            self.visit_number(visitor)
        }
    )*};
}

impl<'de> Deserializer<'de> for &mut Reader<'_> {
    type Error = MsgpackError;

    fn is_human_readable(&self) -> bool {
        false
    }

    numbers! {
        deserialize_u8 deserialize_u16 deserialize_u32 deserialize_u64
        deserialize_i8 deserialize_i16 deserialize_i32 deserialize_i64
    }

    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value> {
        match self.byte()? {
            0xc2 => visitor.visit_bool(false),
            0xc3 => visitor.visit_bool(true),
            marker => Err(MsgpackError::Unexpected("true or false", marker)),
        }
    }

    fn deserialize_str<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value> {
        visitor.visit_str(self.text()?)
    }

    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value> {
        visitor.visit_str(self.text()?)
    }

    fn deserialize_identifier<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value> {
        visitor.visit_str(self.text()?)
    }

    fn deserialize_bytes<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value> {
        visitor.visit_bytes(self.bytes()?)
    }

    fn deserialize_byte_buf<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value> {
        visitor.visit_bytes(self.bytes()?)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value> {
        if self.peek()? != 0xc0 {
            return visitor.visit_some(self);
        }
        self.byte()?;
        visitor.visit_none()
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value> {
        self.visit_list(visitor)
    }

    fn deserialize_tuple<V: Visitor<'de>>(self, _: usize, visitor: V) -> Result<V::Value> {
        self.visit_list(visitor)
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value> {
        self.visit_list(visitor)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value> {
        // A map of one entry, or the bare name.
        let holds = self.peek()? == 0x81;
        if holds {
            self.byte()?;
        }
        self.nested(|reader| visitor.visit_enum(Variant { reader, holds }))
    }

    fn deserialize_any<V: Visitor<'de>>(self, _: V) -> Result<V::Value> {
        Err(MsgpackError::custom("expected a value of a known kind"))
    }

    forward_to_deserialize_any! {
        i128 u128 f32 f64 char unit unit_struct tuple_struct map ignored_any
    }
}

struct List<'r, 'a> {
    reader: &'r mut Reader<'a>,
    left: usize,
}

impl<'de> SeqAccess<'de> for &mut List<'_, '_> {
    type Error = MsgpackError;

    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>> {
        if self.left == 0 {
            return Ok(None);
        }
        self.left -= 1;
        seed.deserialize(&mut *self.reader).map(Some)
    }

    fn size_hint(&self) -> Option<usize> {
        Some(self.left)
    }
}

struct Variant<'r, 'a> {
    reader: &'r mut Reader<'a>,
    /// Whether something follows the name.
    holds: bool,
}

impl Variant<'_, '_> {
    fn must_hold(&self, holds: bool) -> Result<()> {
        if self.holds == holds {
            return Ok(());
        }
        Err(MsgpackError::custom(if holds {
            "a variant lacks what it holds"
        } else {
            "a variant holds what it should not"
        }))
    }
}

impl<'de> EnumAccess<'de> for Variant<'_, '_> {
    type Error = MsgpackError;
    type Variant = Self;

    fn variant_seed<V: DeserializeSeed<'de>>(self, seed: V) -> Result<(V::Value, Self)> {
        let name = seed.deserialize(&mut *self.reader)?;
        Ok((name, self))
    }
}

impl<'de> VariantAccess<'de> for Variant<'_, '_> {
    type Error = MsgpackError;

    fn unit_variant(self) -> Result<()> {
        self.must_hold(false)
    }

    fn newtype_variant_seed<T: DeserializeSeed<'de>>(self, seed: T) -> Result<T::Value> {
        self.must_hold(true)?;
        seed.deserialize(self.reader)
    }

    fn tuple_variant<V: Visitor<'de>>(self, _: usize, visitor: V) -> Result<V::Value> {
        self.must_hold(true)?;
        self.reader.visit_list(visitor)
    }

    fn struct_variant<V: Visitor<'de>>(
        self,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value> {
        self.must_hold(true)?;
        self.reader.visit_list(visitor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::{Exit, Reply, WireError};
    use crate::op::{Buffer, Link, Op, Syscall};
    use crate::{ErrorKind, Lane};
    use proptest::prelude::*;
    use std::fmt;

    fn from_slice<T: DeserializeOwned>(bytes: &[u8]) -> Result<T> {
        from_slice_bounded(bytes, usize::MAX)
    }

    fn round<T>(message: &T)
    where
        T: serde::Serialize + DeserializeOwned + PartialEq + fmt::Debug,
    {
        let bytes = rmp_serde::to_vec(message).unwrap();
        assert_eq!(
            from_slice::<T>(&bytes).as_ref(),
            Ok(message),
            "{bytes:02x?}"
        );
        for end in 0..bytes.len() {
            assert!(
                from_slice::<T>(&bytes[..end]).is_err(),
                "cut at {end}: {bytes:02x?}"
            );
        }
        let longer = [&bytes[..], &[0]].concat();
        assert_eq!(from_slice::<T>(&longer), Err(MsgpackError::Trailing(1)));
    }

    #[test]
    fn numbers_of_every_width_keep_their_value() {
        for shift in 0..64 {
            for near in -2..=2_i64 {
                let number = (1_i64 << shift).wrapping_add(near);
                round(&Reply::Clock(number));
                round(&Reply::Clock(number.wrapping_neg()));
                round(&Reply::Count(number.cast_unsigned()));
            }
        }
        assert!(from_slice::<Lane>(&rmp_serde::to_vec(&-1_i32).unwrap()).is_err());
        assert!(from_slice::<Lane>(&rmp_serde::to_vec(&(1_u64 << 32)).unwrap()).is_err());
    }

    #[test]
    fn lengths_of_every_width_are_read() {
        for len in [0, 15, 16, 31, 32, 255, 256, 65_535, 65_536] {
            let bytes = rmp_serde::to_vec(&Reply::Bytes(vec![7; len].into())).unwrap();
            assert_eq!(from_slice(&bytes), Ok(Reply::Bytes(vec![7; len].into())));
            let bytes = rmp_serde::to_vec(&"x".repeat(len)).unwrap();
            assert_eq!(from_slice(&bytes), Ok("x".repeat(len)));
            let bytes = rmp_serde::to_vec(&vec![true; len]).unwrap();
            assert_eq!(from_slice(&bytes), Ok(vec![true; len]));
        }
    }

    #[test]
    fn results_options_and_variants_of_every_form() {
        let exit = Exit {
            code: None,
            signal: Some(9),
            duration_ns: 5,
        };
        let error = WireError {
            kind: ErrorKind::Os,
            errno: 2,
            message: "open".into(),
        };
        round::<std::result::Result<Reply, WireError>>(&Err(error.clone()));
        round(&Reply::Batch(vec![
            Ok(Reply::Exited(exit)),
            Err(error),
            Ok(Reply::Done),
        ]));
        round(&Op::Syscall(Syscall {
            nr: 257,
            args: [-100, 0, 0, i64::MIN, i64::MAX, 1],
            buffers: vec![Buffer {
                content: b"/".to_vec(),
                len: 2,
                align: 16,
                returned: true,
            }],
            pointers: vec![-1, 5],
            nested: vec![Link {
                parent: 0,
                child: 0,
                offset: 8,
                child_offset: 0,
            }],
            background: false,
        }));
    }

    #[test]
    fn what_could_exhaust_memory_or_stack_is_refused() {
        // A list of 2^32 - 1 values, in five bytes.
        let huge = [0xdd, 0xff, 0xff, 0xff, 0xff];
        assert_eq!(from_slice::<Vec<bool>>(&huge), Err(MsgpackError::Short));
        let huge = [0xc6, 0xff, 0xff, 0xff, 0xff];
        assert_eq!(
            from_slice::<serde_bytes::ByteBuf>(&huge),
            Err(MsgpackError::Short)
        );
        let mut reply = Reply::Done;
        for _ in 0..100 {
            reply = Reply::Batch(vec![Ok(reply)]);
        }
        let bytes = rmp_serde::to_vec(&reply).unwrap();
        assert_eq!(from_slice::<Reply>(&bytes), Err(MsgpackError::Deep));
    }

    #[test]
    fn a_struct_with_a_field_too_many_is_refused() {
        assert!(from_slice::<Exit>(&rmp_serde::to_vec(&(1, 2, 3, 4)).unwrap()).is_err());
        assert!(from_slice::<Exit>(&rmp_serde::to_vec(&(1, 2)).unwrap()).is_err());
    }

    #[test]
    fn many_small_values_exceed_a_budget() {
        let reply = Reply::Syscall {
            ret: 0,
            errno: 0,
            buffers: vec![None; 1000],
        };
        let bytes = rmp_serde::to_vec(&reply).unwrap();
        assert_eq!(from_slice_bounded::<Reply>(&bytes, 1003), Ok(reply));
        assert_eq!(
            from_slice_bounded::<Reply>(&bytes, 1002),
            Err(MsgpackError::TooMany)
        );
        let batch = Reply::Batch(vec![Ok(Reply::Done); 10]);
        let bytes = rmp_serde::to_vec(&batch).unwrap();
        assert!(from_slice_bounded::<Reply>(&bytes, 10).is_ok());
        assert_eq!(
            from_slice_bounded::<Reply>(&bytes, 9),
            Err(MsgpackError::TooMany)
        );
    }

    proptest! {
        /// What this decoder accepts, the general one reads the same way.
        #[test]
        fn nothing_is_read_differently(bytes in prop::collection::vec(any::<u8>(), 0..60)) {
            if let Ok(op) = from_slice::<Op>(&bytes) {
                prop_assert_eq!(rmp_serde::from_slice::<Op>(&bytes).unwrap(), op);
            }
            if let Ok(reply) = from_slice::<Reply>(&bytes) {
                prop_assert_eq!(rmp_serde::from_slice::<Reply>(&bytes).unwrap(), reply);
            }
        }

        /// Damage to a real message is an error or another message, never a panic.
        #[test]
        fn damage_is_survived(at in 0_usize..80, byte in any::<u8>()) {
            let op = Op::Batch {
                ops: vec![Op::Stat { path: b"/etc".to_vec() }, Op::ClockAdvance { ns: -70_000 }],
            };
            let mut bytes = rmp_serde::to_vec(&op).unwrap();
            let at = at % bytes.len();
            bytes[at] = byte;
            let _ = from_slice::<Op>(&bytes);
        }
    }
}
