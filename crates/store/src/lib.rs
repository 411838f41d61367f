//! The cache on disk: buckets, locks, atomic installs.
