//! A message with the line of source that it is about.
//!
//! The only place that knows the library which draws excerpts.

use crate::paint::Paint;
use crate::text::clean;
use annotate_snippets::{AnnotationKind, Level, Renderer, Snippet};
use provium_events::Location;
use std::ops::Range;

/// Gives the source of a test file, so that a report can show a line of it.
pub trait Sources {
    /// The text of `file`, named as events name it; `None` where it cannot be had.
    fn text(&self, file: &str) -> Option<String>;
}

/// Sources by a function.
impl<F: Fn(&str) -> Option<String>> Sources for F {
    fn text(&self, file: &str) -> Option<String> {
        self(file)
    }
}

/// `message`, and under it the line that `location` names, marked; ends in a line end.
pub(crate) fn excerpt(
    message: &str,
    location: Option<&Location>,
    sources: &dyn Sources,
    paint: Paint,
) -> String {
    let message = clean(message);
    let Some(location) = location else {
        return format!("{}\n", heading(&message, paint));
    };
    // The place is shown below; Lua puts it in front as well.
    let place = format!("{}:{}: ", location.file, location.line);
    let message = message
        .strip_prefix(place.as_str())
        .unwrap_or(&message)
        .to_owned();
    let source = sources.text(&location.file).map(|text| clean(&text));
    let marked = source
        .as_deref()
        .and_then(|source| marked_range(source, location));
    let (Some(source), Some(range)) = (source.as_deref(), marked) else {
        let line = location.line;
        return format!(
            "{}\n  --> {}:{line}\n",
            heading(&message, paint),
            location.file
        );
    };
    // Only the first line heads the excerpt; what follows it reads better below.
    let (first, rest) = message.split_once('\n').unwrap_or((&message, ""));
    let snippet = Snippet::source(source)
        .path(location.file.as_str())
        .fold(true)
        .annotation(AnnotationKind::Primary.span(range));
    let report = [Level::ERROR.no_name().primary_title(first).element(snippet)];
    let renderer = if paint.is_enabled() {
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

fn heading(message: &str, paint: Paint) -> String {
    let (first, rest) = message.split_once('\n').unwrap_or((message, ""));
    let first = paint.bad(first);
    if rest.trim().is_empty() {
        first
    } else {
        format!("{first}\n{}", rest.trim_end())
    }
}

/// What is marked of the source: from the column, or the first word, to the end of the line.
fn marked_range(source: &str, location: &Location) -> Option<Range<usize>> {
    let index = usize::try_from(location.line).ok()?.checked_sub(1)?;
    let line = source.split('\n').nth(index)?;
    let start: usize = source
        .split('\n')
        .take(index)
        .map(|line| line.len() + 1)
        .sum();
    let end = line.trim_end().len();
    let first_word = line.len() - line.trim_start().len();
    let column = location.column.and_then(|column| {
        let column = usize::try_from(column).ok()?.checked_sub(1)?;
        line.char_indices().nth(column).map(|(at, _)| at)
    });
    let from = column.unwrap_or(first_word).min(end);
    Some(start + from..start + end.max(from))
}
