//! The `kubesim` command.

fn main() {}
