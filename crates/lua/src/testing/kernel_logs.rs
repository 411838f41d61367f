//! Looks, after each test, whether the kernels of its VMs reported something on their consoles: an
//! oops, a bug, a sanitizer's finding, a hung task, a panic. That fails the test, also one whose own
//! assertions hold; a plain warning is only put into its log. What a test expects is said in its meta
//! (`kernel_log`).
//!
//! A VM of the file is read on from where the test before left off, so nothing goes unread between
//! tests; what came before the first test counts for that one. A VM of the test is read to its end,
//! after it was closed, and so is the test's copy of a VM of the file. A VM that the test itself has
//! closed is its own business.

use super::kernel_trace;
use super::prepared::TestLab;
use super::{TestStatus, Verdict};
use crate::engine::cut::keep_in;
use crate::engine::test_file::TestFileState;
use mlua::Value;
use provium_lab::kernel_log::{Report, ReportKind};
use provium_lab::{Lab, ResourceId, Scope, Vm};
use std::cell::RefCell;
use std::collections::BTreeMap;

/// Faults that a message names.
const SHOWN: usize = 8;

/// What a test says about its kernels' reports.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum KernelLog {
    /// They fail it, unless they contain one of these texts.
    Check(Vec<String>),
    /// They are its business.
    Ignore,
}

/// How far the consoles of the file's VMs have been read.
#[derive(Debug, Default)]
pub(crate) struct LogCursors(RefCell<BTreeMap<ResourceId, u64>>);

/// The VMs that a test could use, before its scope is closed.
pub(crate) struct KernelLogCheck {
    /// Each with how far it had been read before.
    of_test: Vec<(Vm, u64)>,
    of_file: Vec<Vm>,
    lab: Lab,
}

impl Default for KernelLog {
    fn default() -> Self {
        Self::Check(Vec::new())
    }
}

impl KernelLog {
    /// From a meta value; the error says what may be there.
    pub(crate) fn read(value: &Value) -> Result<Self, String> {
        let why = || "must be \"ignore\" or a list of texts that reports may contain".to_owned();
        match value {
            Value::String(word) if *word == "ignore" => Ok(Self::Ignore),
            Value::Table(list) if list.raw_len() > 0 => {
                let texts = list.sequence_values::<mlua::LuaString>();
                let texts = texts.map(|text| text.map(|text| text.to_string_lossy()));
                let texts: Vec<String> = texts.collect::<Result<_, _>>().map_err(|_| why())?;
                // An empty text is part of every report.
                let empty = texts.iter().any(String::is_empty);
                if empty {
                    Err(why())
                } else {
                    Ok(Self::Check(texts))
                }
            }
            _ => Err(why()),
        }
    }

    fn allows(&self, report: &Report) -> bool {
        match self {
            Self::Ignore => true,
            Self::Check(texts) => texts.iter().any(|text| report.line.contains(text)),
        }
    }
}

impl LogCursors {
    /// How far those VMs have been read, of which copies are to be read on; from here on they count
    /// as read.
    pub(super) fn read_more<'a>(
        &self,
        vms: impl Iterator<Item = &'a Vm>,
    ) -> BTreeMap<ResourceId, u64> {
        let mut positions = self.0.borrow_mut();
        let read = vms.map(|vm| {
            let before = positions.insert(vm.id(), vm.console().mark());
            (vm.id(), before.unwrap_or(0))
        });
        read.collect()
    }
}

impl KernelLogCheck {
    pub(super) fn new(state: &TestFileState, scope: &Scope, test_lab: Option<&TestLab>) -> Self {
        let vms = |scope: &Scope| state.lab.all_vms(scope);
        let mut of_test: Vec<_> = vms(scope).into_iter().map(|vm| (vm, 0)).collect();
        let of_file = vms(test_lab.map_or(&state.scope, |test_lab| &test_lab.scope));
        // One of the file's may be a member of a lab of the test's, too: it is read on as the file's.
        of_test.retain(|(vm, _)| of_file.iter().all(|other| other.id() != vm.id()));
        let Some(test_lab) = test_lab else {
            return Self {
                of_test,
                of_file,
                lab: state.lab.clone(),
            };
        };
        let copies = of_file.into_iter();
        of_test.extend(copies.map(|vm| {
            let read = test_lab.read.get(&vm.id());
            (vm, read.copied().unwrap_or(0))
        }));
        Self {
            of_test,
            of_file: Vec::new(),
            lab: state.lab.clone(),
        }
    }

    /// Reads what has come, and puts it into the verdict. To be called once the scope is closed.
    pub(crate) fn conclude(self, positions: &LogCursors, meta: &KernelLog, verdict: &mut Verdict) {
        let mut faults = Vec::new();
        let keep = keep_in(&self.lab);
        let mut positions = positions.0.borrow_mut();
        let of_test = self.of_test.into_iter().map(|(vm, from)| (vm, from, true));
        let of_file = self.of_file.into_iter().map(|vm| {
            let from = positions.get(&vm.id()).copied();
            (vm, from.unwrap_or(0), false)
        });
        let all: Vec<_> = of_test.chain(of_file).collect();
        for (vm, from, to_the_end) in all {
            let console = vm.console();
            console.settle();
            let from = from.max(console.ignored_reports());
            let (reports, next) = match console.reports(from, to_the_end) {
                Ok(found) => found,
                Err(_) if matches!(meta, KernelLog::Ignore) => continue,
                Err(error) => {
                    faults.push(format!(
                        "{error}; what the kernel reported may be among them"
                    ));
                    continue;
                }
            };
            if !to_the_end {
                positions.insert(vm.id(), next);
            }
            let mut has_trace = false;
            for report in reports.iter().filter(|report| !meta.allows(report)) {
                let found = format!("the kernel of {} reported: {report}", vm.subject());
                match report.kind {
                    ReportKind::Fault if has_trace => faults.push(found),
                    ReportKind::Fault => {
                        has_trace = true;
                        let printed = console.since(from).unwrap_or_default();
                        let trace = kernel_trace::head(&printed, &report.line, || {
                            keep(&format!("console of {}", vm.name()), &printed)
                        });
                        faults.push([vec![found], trace].concat().join("\n"));
                    }
                    ReportKind::Warning => verdict.log.push(found),
                }
            }
        }
        if faults.is_empty() {
            return;
        }
        let more = faults.len().saturating_sub(SHOWN);
        if more > 0 {
            faults.truncate(SHOWN);
            faults.push(format!("and {more} more"));
        }
        faults.push(
            "what a test expects of its kernels is said in its meta: kernel_log = {\"part of the \
             report\"}, or \"ignore\""
                .to_owned(),
        );
        if verdict.status == TestStatus::Failed {
            faults.insert(0, std::mem::take(&mut verdict.message));
        }
        verdict.status = TestStatus::Failed;
        verdict.message = faults.join("\n");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_meta_takes_a_word_or_texts() {
        let lua = mlua::Lua::new();
        let read = |code: &str| KernelLog::read(&lua.load(code).eval().unwrap());
        assert_eq!(read("'ignore'"), Ok(KernelLog::Ignore));
        let texts = vec!["use-after-free".to_owned(), "x".to_owned()];
        assert_eq!(
            read("{'use-after-free', 'x'}"),
            Ok(KernelLog::Check(texts.clone()))
        );
        for bad in [
            "'ignored'",
            "true",
            "1",
            "{}",
            "{''}",
            "{1, {}}",
            "{a = 'x'}",
        ] {
            assert!(read(bad).is_err(), "{bad}");
        }
        let report = |line: &str| Report {
            kind: ReportKind::Fault,
            line: line.to_owned(),
        };
        let meta = KernelLog::Check(texts);
        assert!(meta.allows(&report("BUG: KASAN: use-after-free in f")));
        assert!(!meta.allows(&report("BUG: KASAN: out-of-bounds in f")));
        assert!(!KernelLog::default().allows(&report("BUG: any")));
    }
}
