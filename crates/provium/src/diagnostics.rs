//! Errors as words: what happened, where, why, and what to do about it.
//!
//! The only place of the executable that knows the library which draws excerpts.

use crate::argv;
use crate::config::ConfigError;
use crate::failure::Failure;
use annotate_snippets::{AnnotationKind, Group, Level, Renderer, Snippet};
use provium_events::printable::clean;
use provium_image::ImageError;
use provium_runner::DiscoverError;
use provium_store::StoreError;
use std::error::Error;
use std::ffi::OsStr;
use std::fmt::Write as _;

/// The whole message for a failure, with its line end.
pub(crate) fn render(failure: &Failure, colour: bool) -> String {
    let mut text = match failure {
        Failure::Config(error) => excerpt(error, colour),
        other => title(&clean(&other.to_string()), colour),
    };
    for cause in causes(failure) {
        let words = clean(&cause.to_string());
        // Some errors of libraries repeat their source.
        if !text.contains(&words) {
            let _ = writeln!(text, "  because: {words}");
        }
    }
    if let Failure::BuildFailed { output, .. } = failure
        && !output.trim().is_empty()
    {
        text.push_str("its output:\n");
        for line in clean(output.trim_end()).lines() {
            let _ = writeln!(text, "  {line}");
        }
    }
    if let Some(hint) = hint(failure) {
        let report = [Group::with_title(Level::HELP.primary_title(hint.as_str()))];
        let _ = writeln!(text, "{}", renderer(colour).render(&report));
    }
    text
}

/// An error and its causes on one line.
pub(crate) fn in_one_line(error: &dyn Error) -> String {
    let mut text = error.to_string();
    for cause in causes(error) {
        let words = cause.to_string();
        if !text.contains(&words) {
            let _ = write!(text, ": {words}");
        }
    }
    text.replace('\n', " ")
}

/// The causes of an error, nearest first.
fn causes<'a>(error: &'a (dyn Error + 'a)) -> impl Iterator<Item = &'a (dyn Error + 'a)> {
    std::iter::successors(error.source(), |&cause| cause.source())
}

/// What the user can do.
fn hint(failure: &Failure) -> Option<String> {
    let known = match failure {
        Failure::Config(error) => return error.hint.clone(),
        Failure::UnknownCommand { word } => return Some(argv::command_hint(word)),
        Failure::Discover(DiscoverError::NoFixture { .. }) => {
            Some("`provium list --fixtures` lists the fixtures of the project")
        }
        Failure::Discover(DiscoverError::Missing { path })
            if argv::is_command(OsStr::new(path)) =>
        {
            return Some(format!(
                "`{path}` is a command; it comes first: `provium {path} …`"
            ));
        }
        Failure::Discover(DiscoverError::Missing { .. } | DiscoverError::Empty) => Some(
            "paths are relative to the current folder; without a path, the roots of provium.toml are run",
        ),
        Failure::Discover(DiscoverError::NotAFile { .. }) => {
            Some("remove it, or give it a name that does not end in `.test.lua` or `.fixture.lua`")
        }
        Failure::Output { .. } => Some("the output is incomplete; the tests themselves have run"),
        Failure::Limit { .. } => Some("`ulimit -a` shows the limits, `ulimit` raises them"),
        Failure::Machine(_) => Some("`provium doctor` shows what is missing and how to install it"),
        Failure::Image(error) => image_hint(error),
        Failure::ProfileImage { source, .. } => image_hint(source),
        Failure::Store(error)
        | Failure::Cache {
            source: ImageError::Store(error),
            ..
        } if !matches!(error, StoreError::Io(_) | StoreError::Unusable { .. }) => {
            // It says itself what can be done; the folder can be written.
            None
        }
        Failure::Cache { .. } | Failure::Store(_) | Failure::NoHome => {
            Some("set `cache_dir` in [provium] of provium.toml to a folder that can be written")
        }
        Failure::BuildNotRun { .. } | Failure::BuildFailed { .. } => {
            Some("`build` is set in provium.toml; --no-build uses what is already built")
        }
        Failure::Discover(_)
        | Failure::Usage { .. }
        | Failure::Profile(_)
        | Failure::Lab(_)
        | Failure::ProfileUnfit { .. }
        | Failure::NotInThisVersion { .. }
        | Failure::Events { .. }
        | Failure::Report { .. }
        | Failure::AgentNotWritten { .. }
        | Failure::NoCurrentFolder(_)
        | Failure::Host { .. }
        | Failure::Interrupted => None,
    };
    known.map(str::to_owned)
}

/// What the user can do about an image that cannot be prepared; the errors that are not here say it
/// themselves.
fn image_hint(error: &ImageError) -> Option<&'static str> {
    match error {
        ImageError::NotAKernel { .. } => {
            Some("`kernel` in the profile is a bzImage or an ELF `vmlinux` for x86-64")
        }
        ImageError::NotAnInitrd { .. } => {
            Some("`initrd` in the profile is a cpio archive in the format `newc`, packed or not")
        }
        ImageError::NoKernel { .. } => Some(
            "`root` in the profile is a whole system with a kernel; `kernel` names one outside of it",
        ),
        ImageError::UnknownModule { .. } => {
            Some("`modules` in the profile names modules as `modprobe` does")
        }
        ImageError::Store(_) => {
            Some("set `cache_dir` in [provium] of provium.toml to a folder that can be written")
        }
        _ => None,
    }
}

fn title(words: &str, colour: bool) -> String {
    let mut text = renderer(colour).render(&[Group::with_title(Level::ERROR.primary_title(words))]);
    text.push('\n');
    text
}

fn excerpt(error: &ConfigError, colour: bool) -> String {
    let words = clean(&error.to_string());
    let Some(place) = &error.place else {
        return title(&words, colour);
    };
    let snippet = Snippet::source(place.text.as_str())
        .path(place.path.as_str())
        .fold(true)
        .annotation(AnnotationKind::Primary.span(place.span.clone()));
    let report = [Level::ERROR.primary_title(words.as_str()).element(snippet)];
    let mut text = renderer(colour).render(&report);
    text.push('\n');
    text
}

fn renderer(colour: bool) -> Renderer {
    if colour {
        Renderer::styled()
    } else {
        Renderer::plain()
    }
}
