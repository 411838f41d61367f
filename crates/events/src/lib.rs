//! What a run tells the outside, framed and versioned.
