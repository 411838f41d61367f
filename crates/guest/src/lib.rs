//! The host's end of the agent channel: calls, streams, cancel.
