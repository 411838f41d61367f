//! A message with the line of source that it is about.
//!
//! The only place that knows the library which draws excerpts.

use crate::styles::Styles;
use annotate_snippets::{AnnotationKind, Level, Renderer, Snippet};
use provium_events::Location;
use provium_events::printable::{clean, one_line};
use std::ops::Range;

/// Lines of source that are drawn from, before and behind the one that is marked.
const AROUND: usize = 3;

/// Gives the source of a test file, so that a report can show a line of it.
pub trait Sources {
    /// The text of `file`, named as events name it; `None` where there is none.
    fn text(&self, file: &str) -> Option<String>;
}

/// Sources by a function.
impl<F: Fn(&str) -> Option<String>> Sources for F {
    fn text(&self, file: &str) -> Option<String> {
        self(file)
    }
}

/// The source that was shown last, taken apart: a file with many failures is read once.
pub(crate) struct SourceCache {
    sources: Box<dyn Sources>,
    last: Option<(String, Option<Vec<String>>)>,
}

impl SourceCache {
    pub(crate) fn new(sources: impl Sources + 'static) -> Self {
        Self {
            sources: Box::new(sources),
            last: None,
        }
    }

    /// The lines of `file`, fit for a terminal.
    fn lines(&mut self, file: &str) -> Option<&[String]> {
        if self.last.as_ref().is_none_or(|(last, _)| last != file) {
            let text = self.sources.text(file);
            let lines = text.map(|text| text.split('\n').map(clean).collect());
            self.last = Some((file.to_owned(), lines));
        }
        let (_, lines) = self.last.as_ref()?;
        lines.as_deref()
    }
}

/// `message`, and under it the line that it is about, marked; ends in a line end. The line is the one
/// that the message itself begins with, if that is in a file whose source is there: an error that was
/// caught and raised again was raised there first. Otherwise it is `location`.
pub(crate) fn excerpt(
    message: &str,
    location: Option<&Location>,
    sources: &mut SourceCache,
    styles: Styles,
) -> String {
    let message = clean(message);
    let stated = stated(&message, location).filter(|(stated, _)| {
        let lines = sources.lines(&stated.file);
        lines.is_some_and(|lines| (stated.line as usize) <= lines.len())
    });
    let (location, message) = match (stated, location) {
        // The place is shown below; Lua puts it in front as well.
        (Some((stated, rest)), _) => (stated, rest.to_owned()),
        (None, Some(location)) => {
            let place = format!("{}:{}: ", clean(&location.file), location.line);
            let rest = message.strip_prefix(place.as_str()).unwrap_or(&message);
            (location.clone(), rest.to_owned())
        }
        (None, None) => return format!("{}\n", heading(&message, styles)),
    };
    let (file, line) = (one_line(&location.file), location.line);
    let window = sources
        .lines(&location.file)
        .and_then(|lines| Window::of(lines, &location));
    let Some(window) = window else {
        return format!("{}\n  --> {file}:{line}\n", heading(&message, styles));
    };
    // Only the first line heads the excerpt; what follows it reads better below.
    let (first, rest) = message.split_once('\n').unwrap_or((&message, ""));
    let snippet = Snippet::source(window.text.as_str())
        .path(file.as_str())
        .line_start(window.first_line)
        .fold(true)
        .annotation(AnnotationKind::Primary.span(window.marked));
    let report = [Level::ERROR.no_name().primary_title(first).element(snippet)];
    let renderer = if styles.is_enabled() {
        Renderer::styled()
    } else {
        Renderer::plain()
    };
    let mut text = renderer.render(&report).trim_end().to_owned();
    text.push('\n');
    if !rest.trim().is_empty() {
        text.push_str(rest.trim_end());
        text.push('\n');
    }
    text
}

/// The place that a message begins with, as `file:line: `, and the rest of it. Lua shortens long
/// names to their ends (`luaO_chunkid`): such a one means the file of `location`, if it is its end.
fn stated<'a>(message: &'a str, location: Option<&Location>) -> Option<(Location, &'a str)> {
    let first_line = message.split('\n').next()?;
    // The name may hold colons itself: the first number between two of them is the line.
    let (at, line, end) = first_line.match_indices(':').find_map(|(at, _)| {
        let (number, _) = first_line[at + 1..].split_once(": ")?;
        let line = number.parse::<u32>().ok().filter(|line| *line > 0)?;
        Some((at, line, at + 1 + number.len() + 2))
    })?;
    let mut file = &first_line[..at];
    if let Some(end) = file.strip_prefix("...") {
        let location = location.filter(|location| location.file.ends_with(end))?;
        file = &location.file;
    }
    // The same line, whose column may be known.
    let known = location.filter(|known| known.file == file && known.line == line);
    let stated = known.cloned().unwrap_or_else(|| Location {
        file: file.to_owned(),
        line,
        column: None,
    });
    Some((stated, &message[end..]))
}

fn heading(message: &str, styles: Styles) -> String {
    let (first, rest) = message.split_once('\n').unwrap_or((message, ""));
    let first = styles.failure(first);
    if rest.trim().is_empty() {
        first
    } else {
        format!("{first}\n{}", rest.trim_end())
    }
}

/// The part of a source that an excerpt is drawn from.
struct Window {
    text: String,
    first_line: usize,
    /// The bytes that are marked: from the column, or the first word, to the end of the line.
    marked: Range<usize>,
}

impl Window {
    fn of(lines: &[String], location: &Location) -> Option<Self> {
        let index = usize::try_from(location.line).ok()?.checked_sub(1)?;
        let line = lines.get(index)?;
        let first = index.saturating_sub(AROUND);
        let last = (index + AROUND).min(lines.len() - 1);
        let start: usize = lines[first..index].iter().map(|line| line.len() + 1).sum();
        let end = line.trim_end().len();
        let first_word = line.len() - line.trim_start().len();
        let column = location.column.and_then(|column| {
            let column = usize::try_from(column).ok()?.checked_sub(1)?;
            line.char_indices().nth(column).map(|(at, _)| at)
        });
        let from = column.unwrap_or(first_word).min(end);
        Some(Self {
            text: lines[first..=last].join("\n"),
            first_line: first + 1,
            marked: start + from..start + end.max(from),
        })
    }
}
