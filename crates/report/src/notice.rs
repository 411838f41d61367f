//! Notices at the time they are sent: a line each, whatever the report looks like.

use provium_events::printable::one_line;
use provium_events::{Notice, NoticeLevel};

/// The line for a notice, with its line end.
pub fn notice_line(notice: &Notice) -> String {
    let text = one_line(&notice.text);
    match notice.level {
        NoticeLevel::Info => format!("provium: {text}\n"),
        NoticeLevel::Warning => format!("provium: warning: {text}\n"),
    }
}
