//! Requests of the protocol as commands of the disk, and errors of the disk as values of the protocol.

use crate::command::{Admission, Command, CommandKind};
use crate::export::Export;
use provium_nbd::{ErrorValue, Output, Request, RequestKind};
use rustix::io::Errno;

/// The disk's command for a request.
pub(super) fn command(request: &Request) -> Command {
    Command {
        kind: match request.kind {
            RequestKind::Read => CommandKind::Read,
            RequestKind::Write => CommandKind::Write,
            RequestKind::Flush => CommandKind::Flush,
            RequestKind::Trim => CommandKind::Discard,
            RequestKind::WriteZeroes => CommandKind::WriteZeroes,
        },
        offset: request.offset,
        length: request.length.into(),
        fua: request.fua,
    }
}

/// Carries out a request, and puts its reply into the output. A write has `data`.
pub(super) fn perform(
    export: &dyn Export,
    admission: &Admission,
    request: &Request,
    data: &[u8],
    output: &mut Output,
) {
    let result = match request.kind {
        RequestKind::Read => {
            return output.read(request, |buffer| {
                export.read(admission, buffer).map_err(error_value)
            });
        }
        RequestKind::Write => export.write(admission, data),
        RequestKind::Flush | RequestKind::Trim | RequestKind::WriteZeroes => {
            export.carry_out(admission)
        }
    };
    answer(request, result, output);
}

/// Puts the reply to a request without data of its own into the output.
pub(super) fn answer(request: &Request, result: Result<(), Errno>, output: &mut Output) {
    match result {
        Ok(()) => output.success(request),
        Err(errno) => output.error(request, error_value(errno)),
    }
}

/// Section *Error values* of the specification. An error without a value there is an I/O error for the guest.
fn error_value(errno: Errno) -> ErrorValue {
    match errno {
        Errno::PERM | Errno::ACCESS | Errno::ROFS => ErrorValue::NotPermitted,
        Errno::NOMEM => ErrorValue::NoMemory,
        Errno::INVAL => ErrorValue::Invalid,
        Errno::NOSPC | Errno::DQUOT | Errno::FBIG => ErrorValue::NoSpace,
        Errno::OVERFLOW => ErrorValue::Overflow,
        Errno::NOTSUP => ErrorValue::NotSupported,
        Errno::SHUTDOWN => ErrorValue::Shutdown,
        _ => ErrorValue::Io,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_have_values_of_the_protocol() {
        for (errno, value) in [
            (Errno::ROFS, ErrorValue::NotPermitted),
            (Errno::FBIG, ErrorValue::NoSpace),
            (Errno::DQUOT, ErrorValue::NoSpace),
            (Errno::IO, ErrorValue::Io),
            (Errno::NXIO, ErrorValue::Io),
        ] {
            assert_eq!(error_value(errno), value);
        }
    }
}
