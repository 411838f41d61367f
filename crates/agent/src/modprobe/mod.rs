//! The guest's `modprobe`: modules come from the host.
//!
//! It is run by the kernel, or by hand, as a process of its own. What it prints and how it exits is
//! what `modprobe(8)` of kmod does, as far as scripts look at it.

use crate::router::ask_for_module;
use crate::sys::{Errno, boot, fd};
use provium_protocol::Answer;
use provium_protocol::message::ModuleFile;
use std::ffi::CString;

/// Writes a line to standard error.
pub(crate) fn complain(line: &str) {
    let _ = fd::write_all(2, format!("{line}\n").as_bytes());
}

#[derive(Debug, Default, PartialEq, Eq)]
struct Request {
    quiet: bool,
    all: bool,
    remove: bool,
    pretend: bool,
    /// The module (or, with `all`, the modules) and the parameters.
    words: Vec<String>,
}

impl Request {
    fn parse(words: impl Iterator<Item = String>) -> Result<Self, String> {
        let mut request = Self::default();
        let mut words = words;
        let mut options = true;
        while let Some(word) = words.next() {
            if !options || !word.starts_with('-') || word == "-" {
                request.words.push(word);
                continue;
            }
            match word.as_str() {
                "--" => options = false,
                "--quiet" => request.quiet = true,
                "--all" => request.all = true,
                "--remove" => request.remove = true,
                "--dry-run" | "--show" => request.pretend = true,
                "--verbose" | "--syslog" | "--use-blacklist" | "--first-time" => {}
                "--set-version" | "--dirname" | "--config" => drop(words.next()),
                long if long.starts_with("--") => {
                    return Err(format!("unrecognized option '{long}'"));
                }
                short => request.short(&short[1..], &mut words)?,
            }
        }
        Ok(request)
    }

    fn short(
        &mut self,
        letters: &str,
        words: &mut impl Iterator<Item = String>,
    ) -> Result<(), String> {
        for letter in letters.chars() {
            match letter {
                'q' => self.quiet = true,
                'a' => self.all = true,
                'r' => self.remove = true,
                'n' => self.pretend = true,
                'v' | 's' | 'b' | 'i' | 'f' => {}
                'S' | 'd' | 'C' => drop(words.next()),
                _ => return Err(format!("invalid option -- '{letter}'")),
            }
        }
        Ok(())
    }
}

/// Does what the arguments say; gives the exit code.
pub(crate) fn run(words: impl Iterator<Item = String>) -> i32 {
    let request = match Request::parse(words) {
        Ok(request) => request,
        Err(why) => {
            complain(&format!("modprobe: {why}"));
            return 1;
        }
    };
    let Some((first, rest)) = request.words.split_first() else {
        complain("modprobe: ERROR: missing parameters. See -h.");
        return 1;
    };
    let done = if request.all || request.remove {
        // No shortcut: each is tried.
        request.words.iter().filter(|name| !one(&request, name, &[])).count() == 0
    } else {
        one(&request, first, rest)
    };
    i32::from(!done)
}

fn one(request: &Request, name: &str, parameters: &[String]) -> bool {
    let result = if request.remove { remove(name) } else { insert(request, name, parameters) };
    if let Err(why) = &result
        && !request.quiet
    {
        complain(&format!("modprobe: {why}"));
    }
    result.is_ok()
}

fn insert(request: &Request, name: &str, parameters: &[String]) -> Result<(), String> {
    let modules = match ask_for_module(name) {
        Some(Answer::Modules(modules)) => modules,
        None => return Err(format!("FATAL: Module {name} cannot be had: no host answers")),
    };
    let Some((wanted, needed)) = modules.split_last() else {
        let release = boot::kernel_release();
        return Err(format!("FATAL: Module {name} not found in directory /lib/modules/{release}"));
    };
    if request.pretend {
        return Ok(());
    }
    for module in needed {
        load(module, "")?;
    }
    load(wanted, &parameters.join(" "))
}

fn load(module: &ModuleFile, parameters: &str) -> Result<(), String> {
    let failed = |errno| format!("ERROR: could not insert '{}': {}", module.name, text(errno));
    let parameters = CString::new(parameters).map_err(|_| failed(Errno::INVAL))?;
    match boot::load_module(&module.object, &parameters) {
        Ok(()) | Err(Errno::EXIST) => Ok(()),
        Err(errno) => Err(failed(errno)),
    }
}

fn remove(name: &str) -> Result<(), String> {
    let module = name.replace('-', "_");
    let terminated = CString::new(module.as_str()).map_err(|_| text(Errno::INVAL))?;
    match boot::unload_module(&terminated) {
        Ok(()) => Ok(()),
        Err(Errno::NOENT) => Err(format!("FATAL: Module {name} not found.")),
        Err(Errno(libc::EWOULDBLOCK | libc::EBUSY)) => {
            Err(format!("FATAL: Module {module} is in use."))
        }
        Err(errno) => Err(format!("ERROR: could not remove '{module}': {}", text(errno))),
    }
}

/// An error as the C library puts it, without its number.
fn text(errno: Errno) -> String {
    let text = std::io::Error::from_raw_os_error(errno.0).to_string();
    match text.find(" (os error") {
        Some(end) => text[..end].to_owned(),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Request, String> {
        Request::parse(line.split_whitespace().map(str::to_owned))
    }

    #[test]
    fn the_kernels_way_of_calling() {
        let request = parse("-q -- fs-ext4").unwrap();
        assert_eq!(request.words, ["fs-ext4"]);
        assert!(request.quiet && !request.all);
    }

    #[test]
    fn letters_may_stand_together_and_take_values() {
        let request = parse("-qab -S 6.1.0 one two").unwrap();
        assert!(request.quiet && request.all);
        assert_eq!(request.words, ["one", "two"]);
        assert_eq!(parse("-x one"), Err("invalid option -- 'x'".to_owned()));
    }

    #[test]
    fn parameters_follow_the_module() {
        assert_eq!(parse("loop max_part=8").unwrap().words, ["loop", "max_part=8"]);
    }

    #[test]
    fn errors_read_as_the_c_library_writes_them() {
        assert_eq!(text(Errno::NOENT), "No such file or directory");
    }
}
