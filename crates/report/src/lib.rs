//! Reports for people and machines, made from events alone.
