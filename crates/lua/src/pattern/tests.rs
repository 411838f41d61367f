//! The matcher against Lua's own, on patterns and texts that chance makes.

use crate::api::globals::install_strings;
use crate::engine::prelude::Prelude;
use mlua::{Function, Lua, Value};
use proptest::prelude::*;
use proptest::strategy::Union;

/// Compares `string` as Lua has it with ours. Both are given the same calls; texts and errors must be
/// the same.
const COMPARE: &str = r##"
local theirs, ours = ...
local function shown(ok, ...)
  local parts = {tostring(ok)}
  for i = 1, select("#", ...) do
    local value = select(i, ...)
    if not ok then value = theirs.gsub(tostring(value), "^[^:]*:%d+: ", "") end
    parts[#parts + 1] = math.type(value) or type(value)
    parts[#parts + 1] = tostring(value)
  end
  return table.concat(parts, "|")
end
local function all(lib, text, pattern, init)
  local matches = {}
  for a, b, c in lib.gmatch(text, pattern, init) do
    matches[#matches + 1] = shown(true, a, b, c)
    if #matches > 100 then break end
  end
  return table.concat(matches, "/")
end
local function compare(what, fn)
  local one, other = shown(pcall(fn, theirs)), shown(pcall(fn, ours))
  if one ~= other then return what .. ": Lua: " .. one .. ", ours: " .. other end
end
return function(text, pattern, init, replacement)
  return compare("find", function(s) return s.find(text, pattern, init) end)
    or compare("plain", function(s) return s.find(text, pattern, init, true) end)
    or compare("match", function(s) return s.match(text, pattern, init) end)
    or compare("gmatch", function(s) return all(s, text, pattern, init) end)
    or compare("gsub", function(s) return s.gsub(text, pattern, replacement) end)
    or compare("gsub n", function(s) return s.gsub(text, pattern, replacement, init) end)
    or compare("gsub function", function(s)
      return s.gsub(text, pattern, function(...) return select("#", ...) .. "<" .. tostring((...)) .. ">" end)
    end)
    or compare("gsub table", function(s) return s.gsub(text, pattern, {a = "A", ab = false, [1] = 2.5}) end)
end
"##;

/// Lua's own functions, and ours.
fn comparison(lua: &Lua) -> Function {
    let copy = "local copy = {} for k, v in pairs(string) do copy[k] = v end return copy";
    let theirs: Value = lua.load(copy).eval().unwrap();
    let native = lua.create_table().unwrap();
    // What the prelude calls; no task runs here.
    let located = lua.create_function(|_, (text, _): (mlua::LuaString, Value)| Ok(text));
    native.raw_set("located", located.unwrap()).unwrap();
    let prelude = Prelude::load(lua, &native).unwrap();
    install_strings(lua, &native).unwrap();
    prelude.take_over_strings(lua, &native).unwrap();
    let ours: Value = lua.globals().get("string").unwrap();
    lua.load(COMPARE)
        .set_name("=c")
        .call((theirs, ours))
        .unwrap()
}

fn differs(
    lua: &Lua,
    compare: &Function,
    (text, pattern): (&[u8], &[u8]),
    init: i64,
    replacement: &[u8],
) -> Option<String> {
    let string = |bytes: &[u8]| lua.create_string(bytes).unwrap();
    let given = (string(text), string(pattern), init, string(replacement));
    match compare.call(given).unwrap() {
        Value::String(text) => Some(text.to_string_lossy()),
        _ => None,
    }
}

fn pattern_part() -> impl Strategy<Value = String> {
    let parts = [
        "a", "b", "%a", "%d", "%s", "%w", "%x", "%p", "%S", "%W", ".", "[ab]", "[^a]", "[a-c%d]",
        "[%]]", "[]a]", "[a-]", "[%a-z]", "%%", "%(", "(", ")", "()", "(a*)", "(.-)", "%1", "%2",
        "%b()", "%bxy", "%f[%w]", "%f[^a]", "%f", "$", "^", "-", "*", "+", "?", "a*", "b+", "a?",
        ".-", ".*", "[", "%", "\0", "%z", "\u{ff}",
    ];
    Union::new(parts.map(|part| Just(part.to_owned())))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn as_lua_does(
        text in "[ab1() xy.\n-]{0,14}",
        parts in prop::collection::vec(pattern_part(), 0..7),
        anchored in any::<bool>(),
        init in -6_i64..18,
        replacement in "(x|%0|%1|%2|%%|%a|%|){0,3}",
    ) {
        thread_local! {
            static MACHINE: (Lua, Function) = {
                let lua = Lua::new();
                let compare = comparison(&lua);
                (lua, compare)
            };
        }
        let mut pattern = parts.concat();
        if anchored {
            pattern.insert(0, '^');
        }
        let found = MACHINE.with(|(lua, compare)| {
            differs(lua, compare, (text.as_bytes(), pattern.as_bytes()), init, replacement.as_bytes())
        });
        prop_assert!(found.is_none(), "{text:?} {pattern:?} {init} {replacement:?}: {found:?}");
    }
}

#[test]
fn every_class_has_the_same_bytes() {
    let lua = Lua::new();
    let compare = comparison(&lua);
    let bytes: Vec<u8> = (0..=255).collect();
    for class in ' '..='~' {
        for pattern in [
            format!("%{class}"),
            format!("[%{class}]"),
            format!("[^%{class}x]"),
        ] {
            let found = differs(&lua, &compare, (&bytes, pattern.as_bytes()), 1, b"-");
            assert_eq!(found, None, "{pattern}");
        }
    }
}

#[test]
fn the_same_limits() {
    let lua = Lua::new();
    let compare = comparison(&lua);
    let deep = "a?".repeat(250);
    let nested = "(".repeat(40);
    for (text, pattern) in [
        ("a".repeat(300), deep),
        ("a".repeat(300), nested),
        ("a".repeat(300), "(a)".repeat(33)),
        ("x".repeat(60), "x-x-x-y".to_owned()),
        ("THE (quick) fox".to_owned(), "%f[%a]%a+%f[%A]".to_owned()),
        ("key = value".to_owned(), "^(%w+)%s*=%s*(%w+)$".to_owned()),
        ("aXb".to_owned(), "%u()".to_owned()),
    ] {
        assert_eq!(
            differs(
                &lua,
                &compare,
                (text.as_bytes(), pattern.as_bytes()),
                1,
                b"<%1>"
            ),
            None,
            "{pattern}"
        );
    }
    for bytes in 0..=255_u8 {
        let pattern = [b'[', bytes, b'-', b'z', b']'];
        assert_eq!(
            differs(&lua, &compare, (b"aA0-z\xff\0", &pattern), 1, b"."),
            None,
            "{bytes}"
        );
    }
}
