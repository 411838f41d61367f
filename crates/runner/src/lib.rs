//! Discovery, selection, pool, dispatch of test files.
