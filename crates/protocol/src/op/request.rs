//! Requests: an operation of its own type, with the type of its reply.

use crate::message::Reply;

/// An operation that is answered by one reply of one type, and uses no streams.
///
/// `call` of the host's lane and channel handles takes any of them. What uses streams, or is
/// answered in more than one way, is written out where it is used.
pub trait Request {
    /// Name of the operation, for errors.
    const NAME: &'static str;
    /// What the agent answers.
    type Reply: FromReply;
}

/// What a request can be answered with.
pub trait FromReply: Sized {
    /// The reply's content; `None` for a reply of another kind.
    fn from_reply(reply: Reply) -> Option<Self>;
}

/// Declares the type of a request and how it becomes an operation of `$ops`.
macro_rules! request {
    // Without a reply: an operation that is not a `Request`.
    ($ops:ident: $($docs:literal)* => $name:ident $({ $($fields:tt)* })? $(($inner:ty))?) => {};
    // Its content is a type of its own.
    ($ops:ident: $($docs:literal)* => $name:ident ($inner:ty) -> $reply:ty) => {
        impl Request for $inner {
            const NAME: &'static str = stringify!($name);
            type Reply = $reply;
        }
        impl From<$inner> for $ops {
            fn from(request: $inner) -> Self {
                Self::$name(request)
            }
        }
    };
    ($ops:ident: $($docs:literal)* => $name:ident -> $reply:ty) => {
        $(#[doc = $docs])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub struct $name;
        impl Request for $name {
            const NAME: &'static str = stringify!($name);
            type Reply = $reply;
        }
        impl From<$name> for $ops {
            fn from(_: $name) -> Self {
                Self::$name
            }
        }
    };
    (
        $ops:ident: $($docs:literal)* =>
        $name:ident { $($([$field_docs:literal])* $field:ident: $type:ty,)* } -> $reply:ty
    ) => {
        $(#[doc = $docs])*
        #[derive(Debug, Clone, PartialEq, Eq)]
        pub struct $name {
            $($(#[doc = $field_docs])* pub $field: $type,)*
        }
        impl Request for $name {
            const NAME: &'static str = stringify!($name);
            type Reply = $reply;
        }
        impl From<$name> for $ops {
            fn from(request: $name) -> Self {
                let $name { $($field),* } = request;
                Self::$name { $($field),* }
            }
        }
    };
}

/// Declares an enum of operations, the [`Request`] of each that names its reply, and what each needs
/// in the guest (`class`), from one list.
macro_rules! operations {
    (
        $(#[$meta:meta])*
        pub enum $ops:ident by $class:ident {
            $(
                $(#[doc = $docs:literal])*
                $name:ident
                $({ $(
                    $(#[doc = $field_docs:literal])*
                    $(#[serde($($serde:tt)*)])?
                    $field:ident: $type:ty,
                )* })?
                $(($inner:ty))?
                $(-> $reply:ty)?,
                $place:ident;
            )*
        }
    ) => {
        $(#[$meta])*
        pub enum $ops {
            $(
                $(#[doc = $docs])*
                $name
                $({ $(
                    $(#[doc = $field_docs])*
                    $(#[serde($($serde)*)])?
                    $field: $type,
                )* })?
                $(($inner))?,
            )*
        }

        impl $ops {
            /// What the operation needs in the guest.
            pub fn class(&self) -> $class {
                match self {
                    $(Self::$name { .. } => $class::$place,)*
                }
            }
        }

        $(
            request! {
                $ops: $($docs)* => $name
                $({ $($([$field_docs])* $field: $type,)* })?
                $(($inner))?
                $(-> $reply)?
            }
        )*
    };
}
pub(super) use {operations, request};
