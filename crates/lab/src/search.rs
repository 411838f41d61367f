//! What a call on a stream looks for in the bytes that are kept.

/// What a call looks for.
pub(crate) trait Search: Send {
    /// As messages show it.
    fn what(&self) -> String;
    /// Where the match ends in all that is kept; `quiet`: no more is there at the moment.
    fn find(&mut self, bytes: &[u8], quiet: bool) -> Option<usize>;
    /// The first `count` of the bytes kept are gone.
    fn dropped(&mut self, _count: usize) {}
}

/// A text. What was searched once is not searched again.
pub(crate) struct Needle<'a> {
    pub(crate) text: &'a [u8],
    searched: usize,
}

impl<'a> Needle<'a> {
    pub(crate) fn new(text: &'a [u8]) -> Self {
        Self { text, searched: 0 }
    }
}

impl Search for Needle<'_> {
    fn what(&self) -> String {
        String::from_utf8_lossy(self.text).into_owned()
    }

    fn find(&mut self, bytes: &[u8], _quiet: bool) -> Option<usize> {
        let from = self.searched.saturating_sub(self.text.len());
        self.searched = bytes.len();
        let at = memchr::memmem::find(&bytes[from..], self.text)?;
        Some(from + at + self.text.len())
    }

    fn dropped(&mut self, count: usize) {
        self.searched = self.searched.saturating_sub(count);
    }
}

/// What a function finds.
pub(crate) struct FoundBy<F> {
    pub(crate) what: String,
    pub(crate) found: F,
}

impl<F: FnMut(&[u8], bool) -> Option<usize> + Send> Search for FoundBy<F> {
    fn what(&self) -> String {
        self.what.clone()
    }

    fn find(&mut self, bytes: &[u8], quiet: bool) -> Option<usize> {
        (self.found)(bytes, quiet)
    }
}
