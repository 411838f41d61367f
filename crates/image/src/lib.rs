//! What a guest boots from: kernels, modules, initial RAM file systems, the default guest.
