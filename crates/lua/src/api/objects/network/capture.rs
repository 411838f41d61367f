//! Captures: `bridge:capture()`, `nic:capture()`. As a stream, a line for each frame.

use crate::api::globals::record_write;
use crate::api::objects::paths::host_path;
use crate::api::objects::stream::{self, HasStream};
use crate::api::objects::value;
use crate::binding::class::{Class, Object};
use mlua::{Lua, Result, Table, Value};
use provium_lab::{ByteStream, Capture, Packet};

/// Nanoseconds in a second.
const SECOND: f64 = 1e9;

/// A capture as Lua holds it.
#[derive(Clone)]
pub(super) struct CaptureObject(Capture);

impl Object for CaptureObject {
    const CLASS: &'static str = "capture";
    fn subject(&self) -> String {
        self.0.lines().subject().to_owned()
    }
}

impl HasStream for CaptureObject {
    fn stream(&self) -> &ByteStream {
        self.0.lines()
    }
}

/// The Lua value of a capture.
pub(super) fn value(lua: &Lua, capture: Capture) -> Result<Value> {
    value::of(lua, capture.id(), || CaptureObject(capture))
}

/// Makes the class.
pub(super) fn install(lua: &Lua) -> Result<()> {
    Class::<CaptureObject>::new(lua)?
        .with(stream::reading)?
        .async_method("packets", |lua, this, _| async move {
            let list = lua.create_table()?;
            for (index, packet) in this.0.packets().await?.iter().enumerate() {
                list.raw_set(index + 1, packet_table(&lua, packet)?)?;
            }
            Ok(list)
        })?
        .async_method("save", |lua, this, args| async move {
            let path = host_path(&lua, &args.text(0, "the path")?)?;
            record_write(&lua, &path);
            Ok(this.0.save(&path).await?)
        })?
        .async_method(
            "close",
            |_, this, _| async move { Ok(this.0.close().await?) },
        )?
        .finish()
}

/// `src` and `dst` are IP addresses, or MAC addresses where the frame has none.
fn packet_table(lua: &Lua, packet: &Packet) -> Result<Table> {
    let table = lua.create_table()?;
    let summary = &packet.summary;
    #[expect(clippy::cast_precision_loss, reason = "time_ns has all digits")]
    table.raw_set("time", packet.time_ns as f64 / SECOND)?;
    table.raw_set("time_ns", packet.time_ns)?;
    table.raw_set("from", packet.from.as_str())?;
    let (src_mac, dst_mac) = match summary.header {
        Some((source, destination)) => (Some(source.to_string()), Some(destination.to_string())),
        None => (None, None),
    };
    let source = summary.source.map(|address| address.to_string());
    let destination = summary.destination.map(|address| address.to_string());
    table.raw_set("src", source.or_else(|| src_mac.clone()))?;
    table.raw_set("dst", destination.or_else(|| dst_mac.clone()))?;
    table.raw_set("src_mac", src_mac)?;
    table.raw_set("dst_mac", dst_mac)?;
    table.raw_set("proto", summary.protocol.as_str())?;
    table.raw_set("src_port", summary.source_port)?;
    table.raw_set("dst_port", summary.destination_port)?;
    table.raw_set("length", summary.length)?;
    table.raw_set("summary", summary.text.as_str())?;
    Ok(table)
}
