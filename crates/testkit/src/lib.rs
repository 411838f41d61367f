//! For our own tests: a fake agent, leak checks.
