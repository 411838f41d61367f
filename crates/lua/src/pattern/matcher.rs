//! The matcher itself, by `lstrlib.c`: recursive descent over the pattern, with backtracking.

use super::classes::{is_in_set, is_of_class};

/// Deepest recursion (MAXCCALLS).
const MAX_DEPTH: usize = 200;
/// Most captures (LUA_MAXCAPTURES).
pub(super) const MAX_CAPTURES: usize = 32;
/// Steps between two checks whether to continue.
const STEPS: u32 = 20_000;
/// Bytes that distinguish a pattern from a plain text.
const SPECIALS: &[u8] = b"^$*+?.([%-";

/// Why the search could not be completed.
#[derive(Debug)]
pub(crate) enum PatternError<E> {
    /// The pattern is malformed; with Lua's error message.
    Bad(String),
    /// It was interrupted.
    Stopped(E),
}

type Result<T, E> = std::result::Result<T, PatternError<E>>;

/// What a capture holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Capture {
    /// The bytes from the first index to before the second.
    Text(usize, usize),
    /// `()`: the index, from 0.
    Position(usize),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum CaptureState {
    Unfinished,
    Position,
    Text(usize),
}

/// A pattern on its way through a text.
pub(crate) struct Matcher<'a, S> {
    text: &'a [u8],
    pattern: &'a [u8],
    captures: [(usize, CaptureState); MAX_CAPTURES],
    level: usize,
    depth: usize,
    steps: u32,
    /// Returns whether to continue; called at regular intervals.
    go_on: S,
}

/// Whether `pattern` is more than a plain text.
pub(crate) fn has_specials(pattern: &[u8]) -> bool {
    pattern.iter().any(|byte| SPECIALS.contains(byte))
}

/// Where the single character class that begins at `p` ends.
pub(super) fn class_end(pattern: &[u8], mut p: usize) -> std::result::Result<usize, &'static str> {
    let at = |p: usize| pattern.get(p).copied();
    let first = at(p);
    p += 1;
    match first {
        Some(b'%') if p == pattern.len() => Err("malformed pattern (ends with '%')"),
        Some(b'%') => Ok(p + 1),
        Some(b'[') => {
            if at(p) == Some(b'^') {
                p += 1;
            }
            loop {
                if p >= pattern.len() {
                    return Err("malformed pattern (missing ']')");
                }
                let c = at(p);
                p += 1;
                if c == Some(b'%') && p < pattern.len() {
                    p += 1;
                }
                if at(p) == Some(b']') {
                    return Ok(p + 1);
                }
            }
        }
        _ => Ok(p),
    }
}

fn bad<T, E>(why: impl Into<String>) -> Result<T, E> {
    Err(PatternError::Bad(why.into()))
}

impl<'a, E, S: FnMut() -> std::result::Result<(), E>> Matcher<'a, S> {
    /// `pattern` is without the `^` of an anchor.
    pub(crate) fn new(text: &'a [u8], pattern: &'a [u8], go_on: S) -> Self {
        Self {
            text,
            pattern,
            captures: [(0, CaptureState::Unfinished); MAX_CAPTURES],
            level: 0,
            depth: 0,
            steps: 0,
            go_on,
        }
    }

    /// The end of a match that begins at `start`.
    pub(crate) fn match_at(&mut self, start: usize) -> Result<Option<usize>, E> {
        self.level = 0;
        self.depth = 0;
        self.run(start, 0)
    }

    /// How many captures the last match made.
    pub(crate) fn levels(&self) -> usize {
        self.level
    }

    /// The capture at `index` of the last match, which went from `start` to `end`; the whole match
    /// for the first one, where there are none.
    pub(crate) fn capture(&self, index: usize, start: usize, end: usize) -> Result<Capture, E> {
        if index >= self.level {
            if index != 0 {
                return bad(format!("invalid capture index %{}", index + 1));
            }
            return Ok(Capture::Text(start, end));
        }
        match self.captures[index] {
            (_, CaptureState::Unfinished) => bad("unfinished capture"),
            (at, CaptureState::Position) => Ok(Capture::Position(at)),
            (at, CaptureState::Text(length)) => Ok(Capture::Text(at, at + length)),
        }
    }

    fn step(&mut self) -> Result<(), E> {
        self.steps += 1;
        if self.steps >= STEPS {
            self.steps = 0;
            (self.go_on)().map_err(PatternError::Stopped)?;
        }
        Ok(())
    }

    fn at(&self, p: usize) -> Option<u8> {
        self.pattern.get(p).copied()
    }

    fn run(&mut self, s: usize, p: usize) -> Result<Option<usize>, E> {
        if self.depth == MAX_DEPTH {
            return bad("pattern too complex");
        }
        self.depth += 1;
        let end = self.walk(s, p);
        self.depth -= 1;
        end
    }

    fn walk(&mut self, mut s: usize, mut p: usize) -> Result<Option<usize>, E> {
        loop {
            self.step()?;
            let Some(c) = self.at(p) else {
                return Ok(Some(s));
            };
            match c {
                b'(' if self.at(p + 1) == Some(b')') => {
                    return self.start_capture(s, p + 2, CaptureState::Position);
                }
                b'(' => return self.start_capture(s, p + 1, CaptureState::Unfinished),
                b')' => return self.end_capture(s, p + 1),
                b'$' if p + 1 == self.pattern.len() => {
                    return Ok((s == self.text.len()).then_some(s));
                }
                b'%' => match self.at(p + 1) {
                    Some(b'b') => {
                        let Some(end) = self.balance(s, p + 2)? else {
                            return Ok(None);
                        };
                        s = end;
                        p += 4;
                        continue;
                    }
                    Some(b'f') => {
                        let Some(next) = self.frontier(s, p + 2)? else {
                            return Ok(None);
                        };
                        p = next;
                        continue;
                    }
                    Some(digit) if digit.is_ascii_digit() => {
                        let Some(end) = self.repeat_capture(s, digit)? else {
                            return Ok(None);
                        };
                        s = end;
                        p += 2;
                        continue;
                    }
                    _ => {}
                },
                _ => {}
            }
            // A match and not `map_err`: this is the hot path, also of builds without optimizations.
            let end = match class_end(self.pattern, p) {
                Ok(end) => end,
                Err(why) => return bad(why),
            };
            let matches = self.single(s, p, end);
            match self.at(end) {
                Some(b'*' | b'?' | b'-') if !matches => p = end + 1,
                _ if !matches => return Ok(None),
                Some(b'*') => return self.longest(s, p, end),
                Some(b'+') => return self.longest(s + 1, p, end),
                Some(b'-') => return self.shortest(s, p, end),
                Some(b'?') => {
                    if let Some(whole) = self.run(s + 1, end + 1)? {
                        return Ok(Some(whole));
                    }
                    p = end + 1;
                }
                _ => {
                    s += 1;
                    p = end;
                }
            }
        }
    }

    fn single(&self, s: usize, p: usize, end: usize) -> bool {
        let Some(c) = self.text.get(s).copied() else {
            return false;
        };
        match self.pattern[p] {
            b'.' => true,
            b'%' => is_of_class(c, self.pattern[p + 1]),
            b'[' => is_in_set(c, &self.pattern[p..end - 1]),
            plain => plain == c,
        }
    }

    fn longest(&mut self, s: usize, p: usize, end: usize) -> Result<Option<usize>, E> {
        let mut count = 0;
        while self.single(s + count, p, end) {
            count += 1;
            self.step()?;
        }
        loop {
            if let Some(whole) = self.run(s + count, end + 1)? {
                return Ok(Some(whole));
            }
            if count == 0 {
                return Ok(None);
            }
            count -= 1;
        }
    }

    fn shortest(&mut self, mut s: usize, p: usize, end: usize) -> Result<Option<usize>, E> {
        loop {
            if let Some(whole) = self.run(s, end + 1)? {
                return Ok(Some(whole));
            }
            if !self.single(s, p, end) {
                return Ok(None);
            }
            s += 1;
        }
    }

    fn balance(&mut self, mut s: usize, p: usize) -> Result<Option<usize>, E> {
        let (Some(open), Some(close)) = (self.at(p), self.at(p + 1)) else {
            return bad("malformed pattern (missing arguments to '%b')");
        };
        if self.text.get(s) != Some(&open) {
            return Ok(None);
        }
        let mut depth = 1;
        loop {
            self.step()?;
            s += 1;
            let Some(c) = self.text.get(s).copied() else {
                return Ok(None);
            };
            if c == close {
                depth -= 1;
                if depth == 0 {
                    return Ok(Some(s + 1));
                }
            } else if c == open {
                depth += 1;
            }
        }
    }

    /// `%f[set]`: where the pattern continues, if `s` is where the set begins.
    fn frontier(&self, s: usize, p: usize) -> Result<Option<usize>, E> {
        if self.at(p) != Some(b'[') {
            return bad("missing '[' after '%f' in pattern");
        }
        let end = class_end(self.pattern, p).or_else(bad)?;
        let set = &self.pattern[p..end - 1];
        let before = s.checked_sub(1).and_then(|at| self.text.get(at));
        let byte = |found: Option<&u8>| found.copied().unwrap_or(0);
        let begins = !is_in_set(byte(before), set) && is_in_set(byte(self.text.get(s)), set);
        Ok(begins.then_some(end))
    }

    fn start_capture(
        &mut self,
        s: usize,
        p: usize,
        held: CaptureState,
    ) -> Result<Option<usize>, E> {
        if self.level >= MAX_CAPTURES {
            return bad("too many captures");
        }
        self.captures[self.level] = (s, held);
        self.level += 1;
        let end = self.run(s, p)?;
        if end.is_none() {
            self.level -= 1;
        }
        Ok(end)
    }

    fn end_capture(&mut self, s: usize, p: usize) -> Result<Option<usize>, E> {
        let open = (0..self.level).rev();
        let mut open = open.filter(|index| self.captures[*index].1 == CaptureState::Unfinished);
        let Some(index) = open.next() else {
            return bad("invalid pattern capture");
        };
        self.captures[index].1 = CaptureState::Text(s - self.captures[index].0);
        let end = self.run(s, p)?;
        if end.is_none() {
            self.captures[index].1 = CaptureState::Unfinished;
        }
        Ok(end)
    }

    /// `%1`: what a capture holds, once more.
    fn repeat_capture(&mut self, s: usize, digit: u8) -> Result<Option<usize>, E> {
        let index = usize::from(digit).wrapping_sub(usize::from(b'1'));
        let held = (index < self.level).then(|| self.captures[index]);
        match held {
            None | Some((_, CaptureState::Unfinished)) => {
                let number = i32::from(digit) - i32::from(b'0');
                bad(format!("invalid capture index %{number}"))
            }
            Some((_, CaptureState::Position)) => Ok(None),
            Some((at, CaptureState::Text(length))) => {
                let same = self.text[s..].starts_with(&self.text[at..at + length]);
                Ok(same.then_some(s + length))
            }
        }
    }
}
