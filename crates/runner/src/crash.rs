//! A panic in a file's thread: kept for that file's report instead of being printed.

use std::any::Any;
use std::cell::{Cell, RefCell};
use std::panic::{AssertUnwindSafe, PanicHookInfo, catch_unwind};

thread_local! {
    static RECORDED: Cell<bool> = const { Cell::new(false) };
    static LAST: RefCell<Option<String>> = const { RefCell::new(None) };
}

/// From now on, panics in file threads are recorded where they happen. All others are handled as before.
pub fn record_panics() {
    let before = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info: &PanicHookInfo<'_>| {
        if RECORDED.get() {
            let place = info
                .location()
                .map(|place| format!(" at {place}"))
                .unwrap_or_default();
            let text = format!("{}{place}", words(info.payload()));
            LAST.with_borrow_mut(|last| *last = Some(text));
        } else {
            before(info);
        }
    }));
}

/// Runs `work`; the error is the payload of its panic.
pub(crate) fn catch<T>(work: impl FnOnce() -> T) -> Result<T, String> {
    RECORDED.set(true);
    // What `work` left half done is never looked at again: it owns all it has.
    catch_unwind(AssertUnwindSafe(work)).map_err(|payload| {
        LAST.with_borrow_mut(Option::take)
            .unwrap_or_else(|| words(&*payload).to_owned())
    })
}

fn words(payload: &(dyn Any + Send)) -> &str {
    let text = payload.downcast_ref::<&str>().copied();
    text.or_else(|| payload.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("no message")
}
