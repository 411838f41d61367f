//! The words that comments, strings, names and pages do without, and what to write instead.
//!
//! A pattern is a sequence of words in lower case; `*` is any one word, and alternatives of one
//! position are separated by `|`. An exception is a longer pattern around the same place that is
//! right English. Nouns of the code are decided in `docs/glossary.md`.

/// One idiom.
pub(crate) struct Idiom {
    /// What is refused.
    pub(crate) pattern: &'static str,
    /// Longer patterns that contain it and are fine.
    pub(crate) except: &'static [&'static str],
    /// What to write instead.
    pub(crate) instead: &'static str,
}

const fn idiom(pattern: &'static str, instead: &'static str) -> Idiom {
    Idiom {
        pattern,
        except: &[],
        instead,
    }
}

/// Words that names in code do without as well.
pub(crate) const NAMES: [&str; 5] = ["told", "whoever", "nobody", "somebody", "anew"];

/// Right English that is so near to "is no file" that a search cannot distinguish the two.
pub(crate) const ABSENCES: &[Idiom] = &[
    idiom("there is no *", "… does not exist, or has no …"),
    idiom("is no longer", "not … any more"),
    Idiom {
        pattern: "is no * than",
        except: &["is no longer *"],
        instead: "is at most …",
    },
];

/// All of them.
pub(crate) const IDIOMS: &[Idiom] = &[
    idiom(
        "told",
        "name the actor and the act: reported, printed, logged, passed",
    ),
    idiom(
        "whoever|whomever|whosoever",
        "name the party: the caller, the test, another run",
    ),
    idiom(
        "nobody|somebody|everybody|anybody|nobody's|somebody's|everybody's|anybody's",
        "name the party, or use the passive",
    ),
    idiom("anew", "again, or from scratch"),
    idiom("be had", "is available, or the verb: cannot prepare"),
    Idiom {
        pattern: "is|are|was|were no *",
        except: &[
            "there is|are|was|were no *",
            "is|are|was|were no longer",
            // A limit: "is no larger than".
            "is|are|was|were no * than",
        ],
        instead: "is not a …, or has no …",
    },
    Idiom {
        pattern: "stand|stands|stood",
        except: &["stand|stands|stood for", "stand|stands|stood in for"],
        instead: "of a VM: is paused, is stopped; of text: is, is written",
    },
    idiom("go|goes|went|gone|going on", "resumes, continues"),
    idiom("to|at rest", "quiesced, idle, paused"),
    idiom("for good", "permanently"),
    Idiom {
        pattern: "is|are|was|were due",
        except: &["is|are|was|were due to"],
        instead: "expected",
    },
    idiom("an|the|each|every|one ask", "a request"),
    idiom("in vain", "without success"),
    idiom("patience|patient", "the timeout multiplier"),
    idiom("mend|mends|mended|mending", "fix, repair"),
    idiom(
        "make|makes|made|making place",
        "is replaced by, frees space for",
    ),
    idiom("ever after", "afterwards, each time"),
    idiom("take|takes|took|taken leave", "disconnects"),
    idiom("in the care of", "owned by"),
    idiom("become|becomes|became of", "happens to, is done with"),
    idiom("has|have looked at", "was checked, has read"),
    idiom("obituary|obituaries", "a death report"),
    idiom("suspicion|suspicions", "a failure hint"),
    idiom("so-so", "warn"),
    idiom("module's text", "one sentence that says what the item is"),
];
