//! Wasm modules from OCI registries: capped, verified, and nothing but Wasm.
