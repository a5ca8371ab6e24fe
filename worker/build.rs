//! Builds the parasite from its own crate into a flat blob and checks it.
//!
//! A cargo run of its own with its own target directory: the blob needs other link arguments and
//! another panic strategy than everything else.

use object::{Object as _, ObjectSection as _, ObjectSegment as _, ObjectSymbol as _};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, error::Error, fs};

/// Longest blob, in bytes.
const LIMIT: usize = 16 * 1024;

/// Bytes of the head of a table of addresses, which nothing uses.
const TABLE_HEAD: u64 = 32;

fn main() -> Result<(), Box<dyn Error>> {
    let parasite = Path::new(&env::var("CARGO_MANIFEST_DIR")?).join("../parasite").canonicalize()?;
    let out = PathBuf::from(env::var("OUT_DIR")?);
    for source in ["src", "blob.ld", "Cargo.toml", "../protocol/src/parasite.rs"] {
        println!("cargo::rerun-if-changed={}", parasite.join(source).display());
    }
    let linked = link(&parasite, &out.join("parasite"))?;
    let blob = check(&fs::read(&linked)?)?;
    fs::write(out.join("parasite.bin"), blob)?;
    Ok(())
}

/// Compiles and links the blob; the path of the linked file.
fn link(parasite: &Path, target_directory: &Path) -> Result<PathBuf, Box<dyn Error>> {
    let target = env::var("TARGET")?;
    let script = parasite.join("blob.ld");
    // -static-pie, never -static: the latter would resolve absolute addresses and hide that they are there
    let link_arguments = [
        "-nostartfiles".into(),
        "-nostdlib".into(),
        "-static-pie".into(),
        "-Wl,--no-dynamic-linker".into(),
        "-Wl,-z,text".into(),
        "-Wl,-z,norelro".into(),
        "-Wl,--gc-sections".into(),
        "-Wl,--build-id=none".into(),
        "-Wl,--no-undefined".into(),
        format!("-Wl,-T,{}", script.display()),
    ];
    let mut cargo = Command::new(env::var("CARGO")?);
    cargo.args(["rustc", "--release", "--locked", "--features", "blob", "--bin", "memcr-parasite"]);
    cargo.arg("--manifest-path").arg(parasite.join("Cargo.toml"));
    cargo.arg("--target").arg(&target).arg("--target-dir").arg(target_directory);
    cargo.args(["--", "-C", "relocation-model=pie", "-C", "force-unwind-tables=no"]);
    for argument in &link_arguments {
        cargo.arg("-C").arg(format!("link-arg={argument}"));
    }
    let of_target = format!("CARGO_TARGET_{}_RUSTFLAGS", target.to_uppercase().replace('-', "_"));
    let flags = ["RUSTFLAGS", "CARGO_ENCODED_RUSTFLAGS", &of_target];
    for variable in flags.into_iter().chain(["RUSTC_WORKSPACE_WRAPPER", "RUSTC_WRAPPER"]) {
        cargo.env_remove(variable);
    }
    // a build system may keep the standard library elsewhere
    cargo.env("CARGO_ENCODED_RUSTFLAGS", places_of_libraries().join("\x1f"));
    // where the standard library is built too, of that no more than is needed
    if env::var_os("CARGO_UNSTABLE_BUILD_STD").is_some() {
        cargo.env("CARGO_UNSTABLE_BUILD_STD", "core");
    }
    cargo.env("CARGO_PROFILE_RELEASE_PANIC", "abort");
    cargo.env("CARGO_PROFILE_RELEASE_LTO", "fat");
    cargo.env("CARGO_PROFILE_RELEASE_CODEGEN_UNITS", "1");
    cargo.env("CARGO_PROFILE_RELEASE_OPT_LEVEL", "2");
    cargo.env("CARGO_PROFILE_RELEASE_STRIP", "none");
    let status = cargo.status()?;
    if !status.success() {
        return Err(format!("building the parasite: cargo ended with {status}").into());
    }
    Ok(target_directory.join(target).join("release/memcr-parasite"))
}

/// Of the flags that everything here is compiled with, those that say where libraries are.
fn places_of_libraries() -> Vec<String> {
    let flags = env::var("CARGO_ENCODED_RUSTFLAGS").unwrap_or_default();
    let mut words = flags.split('\x1f');
    let mut places = Vec::new();
    while let Some(word) = words.next() {
        match word.strip_prefix("-L") {
            Some("") => places.extend(words.next().map(|place| format!("-L{place}"))),
            Some(_) => places.push(word.to_owned()),
            None => {}
        }
    }
    places
}

/// The flat bytes, if nothing in the linked file depends on where it is loaded or what it is linked to.
fn check(linked: &[u8]) -> Result<Vec<u8>, Box<dyn Error>> {
    let file = object::File::parse(linked)?;
    if file.kind() != object::ObjectKind::Dynamic {
        return Err("the parasite is not position independent".into());
    }
    let relocations = file.sections().filter(|section| section.name().is_ok_and(is_relocation_section));
    // some linkers always make the head of a table of addresses; an entry would have a relocation
    let indirect = file.section_by_name(".indirect").map_or(0, |section| section.size());
    if relocations.map(|section| section.size()).sum::<u64>() > 0
        || indirect > TABLE_HEAD
        || file.dynamic_relocations().is_some_and(|mut all| all.next().is_some())
    {
        return Err("the parasite has relocations".into());
    }
    if let Some(symbol) = file.symbols().find(|symbol| symbol.is_undefined() && symbol.name() != Ok("")) {
        return Err(format!("the parasite has an undefined symbol: {}", symbol.name()?).into());
    }
    if file.symbols().any(|symbol| symbol.name().is_ok_and(|name| name.contains("panic"))) {
        return Err("the parasite has code that panics".into());
    }
    if file.entry() != 0 {
        return Err("the parasite's entry is not its first byte".into());
    }
    let mut segments = file.segments();
    let (Some(segment), None) = (segments.next(), segments.next()) else {
        return Err("the parasite has not exactly one segment".into());
    };
    let blob = segment.data()?.to_vec();
    if blob.is_empty() || blob.len() > LIMIT {
        return Err(format!("the parasite has {} bytes, not 1 to {LIMIT}", blob.len()).into());
    }
    println!("cargo::rustc-env=MEMCR_PARASITE_LENGTH={}", blob.len());
    Ok(blob)
}

fn is_relocation_section(name: &str) -> bool {
    name.starts_with(".rel")
}
