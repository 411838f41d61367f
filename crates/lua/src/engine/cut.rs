//! Where a report says that it has cut a text: the note, and the file that has the whole text.

use provium_lab::Lab;

/// Gives the path of the file in which the report of a failure keeps a text, by what the text is; `None` where it
/// is not kept.
pub(crate) type Keep<'a> = &'a dyn Fn(&str, &[u8]) -> Option<String>;

/// Keeps texts with the run of `lab`: their files are written if a failure is reported with their paths.
pub(crate) fn keep_in(lab: &Lab) -> impl Fn(&str, &[u8]) -> Option<String> + use<> {
    let environment = std::sync::Arc::clone(lab.environment());
    move |name, content| environment.kept_output()?.offer(name, content)
}

/// `… 3 more lines in FILE`; without a file, with the word that says on which side they are.
pub(crate) fn more_lines(count: usize, side: &str, file: Option<&str>) -> String {
    let lines = match count {
        1 => "1 more line".to_owned(),
        count => format!("{count} more lines"),
    };
    match (file, side) {
        (Some(file), _) => format!("… {lines} in {file}"),
        (None, "") => format!("… {lines}"),
        (None, side) => format!("… {lines} {side}"),
    }
}
