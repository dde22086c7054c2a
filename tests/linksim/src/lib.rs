//! A lossy one-way link in a function call.
