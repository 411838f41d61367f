//! Suggestions for misspelt words.

/// Whether `word` was meant to be one of `known`, as the end of an error: `; did you mean …`.
pub(crate) fn did_you_mean<'a>(
    word: &str,
    known: impl IntoIterator<Item = &'a str> + Clone,
) -> String {
    match provium_lab::nearest::nearest(word, known.clone()) {
        Some(nearest) => format!("; did you mean `{nearest}`?"),
        None => {
            let all: Vec<&str> = known.into_iter().collect();
            format!("; known are {}", all.join(", "))
        }
    }
}
