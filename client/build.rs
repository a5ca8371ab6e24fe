//! Gives the C library the name under which programs ask the dynamic linker for it.

#![forbid(unsafe_code)]
#![allow(clippy::print_stdout, reason = "that is how a build script talks to cargo")]

fn main() {
    println!("cargo:rustc-cdylib-link-arg=-Wl,-soname,libmemcrclient.so");
    println!("cargo:rerun-if-changed=build.rs");
}
