//! Signals, by number and by name.

use super::preview::shown;
use super::values::integer_of;
use crate::engine::run_status::SIGNALS;
use mlua::Value;

fn signal_number(number: i64) -> Result<i32, String> {
    match i32::try_from(number) {
        Ok(number @ 0..=64) => Ok(number),
        _ => Err(format!("signal number {number} is not one of 0 to 64")),
    }
}

/// A signal: a number, or a name with or without `sig`, any case.
pub(crate) fn signal_of(value: &Value) -> Result<i32, String> {
    match value {
        Value::Integer(number) => signal_number(*number),
        // Lua's `/` gives a float for whole numbers, too.
        Value::Number(number) if number.fract() == 0.0 && number.abs() < 1000.0 =>
        {
            #[expect(clippy::cast_possible_truncation, reason = "a whole number below 1000")]
            signal_number(*number as i64)
        }
        Value::String(text) => {
            let text = text.to_string_lossy();
            let lower = text.to_lowercase();
            let name = lower.strip_prefix("sig").unwrap_or(&lower);
            let known = SIGNALS.iter().find(|(known, _)| *known == name);
            known
                .map(|(_, number)| *number)
                .ok_or_else(|| format!("unknown signal name `{text}`"))
        }
        Value::Number(_) => match integer_of(value) {
            Ok(number) => signal_of(&Value::Integer(number)),
            Err(_) => Err(format!(
                "a signal is a whole number or a name, got {}",
                shown(value)
            )),
        },
        other => Err(format!(
            "a signal is a number or a name, got {}",
            shown(other)
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use mlua::Lua;

    #[test]
    fn signals_have_numbers_and_names() {
        let lua = Lua::new();
        let read = |source: &str| signal_of(&lua.load(source).eval().unwrap());
        assert_eq!(read("'term'").unwrap(), 15);
        assert_eq!(read("'SIGKILL'").unwrap(), 9);
        assert_eq!(read("'SigUsr1'").unwrap(), 10);
        assert_eq!(read("10").unwrap(), 10);
        assert_eq!(read("18 / 2").unwrap(), 9);
        assert!(read("9.5").unwrap_err().contains("9.5"));
        assert_eq!(read("'frob'").unwrap_err(), "unknown signal name `frob`");
        assert!(read("{}").unwrap_err().contains("table"));
    }
}
