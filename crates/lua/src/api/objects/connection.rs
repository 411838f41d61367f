//! `connection`: a connection to a server in the guest.

use super::stream::{self, HasStream};
use super::value;
use crate::binding::class::{Class, Object};
use mlua::{Lua, Result, Value};
use provium_lab::{ByteStream, Connection};

/// A connection as Lua holds it.
#[derive(Debug, Clone)]
pub(super) struct ConnectionObject(Connection);

impl Object for ConnectionObject {
    const CLASS: &'static str = "connection";
    fn subject(&self) -> String {
        self.0.subject().to_owned()
    }
    fn describe(&self) -> String {
        value::describe_handle(self.subject(), self.0.stream().is_closed())
    }
}

impl HasStream for ConnectionObject {
    fn stream(&self) -> &ByteStream {
        self.0.stream()
    }
}

/// The Lua value of a connection.
pub(super) fn value(lua: &Lua, connection: Connection) -> Result<Value> {
    value::of(lua, connection.id(), || ConnectionObject(connection))
}

/// Makes the class.
pub(super) fn install(lua: &Lua) -> Result<()> {
    Class::<ConnectionObject>::new(lua)?
        .with(stream::reading)?
        .async_method("send", |_, this, args| async move {
            Ok(this.0.send(&args.bytes(0, "the data")?).await?)
        })?
        .method("close_write", |_, this, _| {
            this.0.close_write();
            Ok(())
        })?
        .async_method("close", |_, this, _| async move {
            this.0.close().await;
            Ok(())
        })?
        .finish()
}
