//! Child processes of the host: started, grouped, bounded, never left behind.
