//! The command line of `modprobe(8)`: the options that the kernel and test suites use.

/// What to do.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Arguments {
    /// Modules or aliases, in order.
    pub(super) names: Vec<String>,
    /// Parameters for the one module, with blanks between.
    pub(super) parameters: String,
    /// Remove instead of insert.
    pub(super) remove: bool,
    /// Do not report an unknown name.
    pub(super) quiet: bool,
    /// Print what is done.
    pub(super) verbose: bool,
    /// Do nothing.
    pub(super) dry_run: bool,
}

impl Arguments {
    /// Reads the arguments that follow `argv[0]`; the error is a line for the user.
    pub(super) fn parse(args: impl Iterator<Item = String>) -> Result<Self, String> {
        let mut parsed = Self::default();
        let mut all = false;
        let mut words = Vec::new();
        let mut options_end = false;
        for arg in args {
            if options_end || !arg.starts_with('-') || arg == "-" {
                words.push(arg);
            } else if arg == "--" {
                options_end = true;
            } else if let Some(name) = arg.strip_prefix("--") {
                let letter = short_form(name).ok_or(format!("unrecognized option '--{name}'"))?;
                parsed.set(letter, &mut all)?;
            } else {
                for letter in arg[1..].chars() {
                    parsed.set(letter, &mut all)?;
                }
            }
        }
        if all || parsed.remove {
            parsed.names = words;
        } else {
            let mut words = words.into_iter();
            parsed.names.extend(words.next());
            parsed.parameters = words.collect::<Vec<_>>().join(" ");
        }
        if parsed.names.is_empty() {
            return Err("missing parameters: which module?".to_owned());
        }
        Ok(parsed)
    }

    fn set(&mut self, letter: char, all: &mut bool) -> Result<(), String> {
        match letter {
            'a' => *all = true,
            'r' => self.remove = true,
            'q' => self.quiet = true,
            'v' => self.verbose = true,
            'n' => self.dry_run = true,
            // Blacklists are a part of the configuration, which is not read.
            'b' => {}
            other => return Err(format!("invalid option -- '{other}'")),
        }
        Ok(())
    }
}

fn short_form(name: &str) -> Option<char> {
    Some(match name {
        "all" => 'a',
        "remove" | "remove-dependencies" => 'r',
        "quiet" => 'q',
        "verbose" => 'v',
        "dry-run" | "show" => 'n',
        "use-blacklist" => 'b',
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Arguments, String> {
        Arguments::parse(line.split_whitespace().map(str::to_owned))
    }

    fn names(names: &[&str]) -> Vec<String> {
        names.iter().map(|&name| name.to_owned()).collect()
    }

    #[test]
    fn as_the_kernel_calls_it() {
        let expected = Arguments {
            names: names(&["fs-ext4"]),
            quiet: true,
            ..Arguments::default()
        };
        assert_eq!(parse("-q -- fs-ext4"), Ok(expected));
    }

    #[test]
    fn one_name_with_parameters_or_many_names() {
        let one = parse("-v loop max_loop=8 max_part=2").unwrap();
        assert_eq!(one.names, names(&["loop"]));
        assert_eq!(one.parameters, "max_loop=8 max_part=2");
        assert!(one.verbose);
        assert_eq!(
            parse("-qa loop dummy").unwrap().names,
            names(&["loop", "dummy"])
        );
        let removed = parse("--remove loop dummy").unwrap();
        assert!(removed.remove);
        assert_eq!(removed.names, names(&["loop", "dummy"]));
        assert_eq!(parse("-- -odd").unwrap().names, names(&["-odd"]));
    }

    #[test]
    fn mistakes_are_reported() {
        assert_eq!(parse("-Z loop"), Err("invalid option -- 'Z'".to_owned()));
        assert_eq!(
            parse("--bogus"),
            Err("unrecognized option '--bogus'".to_owned())
        );
        assert_eq!(
            parse("-q"),
            Err("missing parameters: which module?".to_owned())
        );
    }
}
