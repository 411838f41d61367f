//! Labs, scopes, VMs, workers, processes, files and streams as one resource graph.
