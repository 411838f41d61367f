//! Values and calls in few words, for messages.

use crate::text;
use mlua::Value;

/// The text, cut at `limit` characters.
pub(crate) fn clip(text: &str, limit: usize) -> String {
    match text.char_indices().nth(limit) {
        Some((cut, _)) => format!("{}…", &text[..cut]),
        None => text.to_owned(),
    }
}

/// Bytes of a string that a preview is made of, more than it shows: a call may get many MiB.
const PREVIEWED: usize = 1024;

/// The beginning of a string as a Lua expression. Where a run of one byte is written with its length, that is the
/// length in the whole string.
fn quoted_beginning(bytes: &[u8]) -> String {
    let Some((beginning, rest)) = bytes.split_at_checked(PREVIEWED) else {
        return text::quoted(bytes);
    };
    let last = beginning[PREVIEWED - 1];
    let run = match last.is_ascii_graphic() {
        true => 0,
        false => rest.iter().take_while(|byte| **byte == last).count(),
    };
    let quoted = text::quoted(&bytes[..PREVIEWED + run]);
    match run == rest.len() {
        true => quoted,
        false => format!("{quoted} .. …"),
    }
}

fn text_preview(text: &mlua::LuaString) -> String {
    let quoted = quoted_beginning(&text.as_bytes());
    if quoted.chars().count() <= 62 {
        return quoted;
    }
    format!("{}\"", clip(&quoted, 61))
}

/// A call as the author wrote it, about: `vm:run("sleep 100")`.
pub(crate) fn call(class: &str, separator: &str, method: &str, args: &[Value]) -> String {
    let mut shown = Vec::new();
    for value in args.iter().take(2) {
        match value {
            Value::String(text) => shown.push(text_preview(text)),
            Value::Integer(number) => shown.push(number.to_string()),
            Value::Number(number) => shown.push(number.to_string()),
            Value::Boolean(flag) => shown.push(flag.to_string()),
            Value::Table(table) => match table.raw_get::<Value>(1) {
                Ok(Value::String(text)) => {
                    shown.push(format!("{{{}…}}", text_preview(&text)));
                }
                _ => shown.push("{…}".to_owned()),
            },
            _ => break,
        }
    }
    format!("{class}{separator}{method}({})", shown.join(", "))
}

/// A value for a message: its type, and what it holds where that is short.
pub(crate) fn shown(value: &Value) -> String {
    match value {
        Value::Nil => "nil".to_owned(),
        Value::Boolean(flag) => format!("the boolean {flag}"),
        Value::Integer(number) => format!("{number}"),
        Value::Number(number) => shown_float(*number),
        Value::UserData(_) => value.to_string().unwrap_or_else(|_| "an object".to_owned()),
        Value::String(text) => text::cut(&text::quoted(&text.as_bytes()), 60),
        other => format!("a {}", type_name(other)),
    }
}

/// A float, as Lua's own `%.14g` would show it where it has more digits than a float holds.
fn shown_float(number: f64) -> String {
    match number.abs() {
        magnitude if magnitude.is_finite() && magnitude > 2f64.powi(53) => {
            let shown = format!("{number:e}");
            format!("{shown} (a float)")
        }
        _ => format!("{number}"),
    }
}

/// The author's word for a value's type.
pub(crate) fn type_name(value: &Value) -> &'static str {
    match value {
        Value::Nil => "nil",
        Value::Boolean(_) => "boolean",
        Value::Integer(_) | Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Table(_) => "table",
        Value::Function(_) => "function",
        Value::Thread(_) => "thread",
        _ => "userdata",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_string_is_quoted_to_its_beginning() {
        assert_eq!(quoted_beginning(b"short"), "\"short\"");
        assert_eq!(quoted_beginning(&[0; 4096]), r#"("\x00"):rep(4096)"#);
        let zeroes_and_more = [&[0; 4096][..], b"more"].concat();
        let quoted = quoted_beginning(&zeroes_and_more);
        assert_eq!(quoted, r#"("\x00"):rep(4096) .. …"#);
        let text = "x".repeat(1 << 20);
        assert_eq!(
            quoted_beginning(text.as_bytes()).len(),
            PREVIEWED + " .. …".len() + 2
        );
    }
}
