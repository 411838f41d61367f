//! The memory that a file's Lua state may hold.

/// Bytes.
pub(crate) const MEMORY_LIMIT: usize = 1 << 30;
/// What Lua raises when it is given no more memory.
pub(crate) const OUT_OF_MEMORY: &str = "not enough memory";

/// The same with the limit in it.
pub(crate) fn out_of_memory() -> String {
    format!(
        "{OUT_OF_MEMORY}: the Lua code of a file may hold {} MiB",
        MEMORY_LIMIT >> 20
    )
}
