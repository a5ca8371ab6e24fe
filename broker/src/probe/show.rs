//! What was found, for people and for programs.

use super::{Feature, features};
use std::io::{Write, stdout};
use std::process::ExitCode;

/// Tries everything and says on standard output what there is. The exit status.
pub(crate) fn run(as_json: bool) -> ExitCode {
    let features = features();
    let said = if as_json { json(&features) } else { table(&features) };
    match stdout().write_all(said.as_bytes()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::from(4),
    }
}

fn json(features: &[Feature]) -> String {
    let listed = features.iter().map(|feature| {
        serde_json::json!({
            "feature": feature.name,
            "found": feature.found,
            "detail": feature.detail,
            "instead": feature.instead,
        })
    });
    let said = serde_json::json!({
        "kernel": kernel(),
        "architecture": std::env::consts::ARCH,
        "page_size": page_size(),
        "features": listed.collect::<Vec<_>>(),
    });
    format!("{said}\n")
}

fn table(features: &[Feature]) -> String {
    let width = features.iter().map(|feature| feature.name.len()).max().unwrap_or(0);
    let mut said = format!(
        "Linux {}, {}, pages of {} bytes\n\n",
        kernel(),
        std::env::consts::ARCH,
        page_size().map_or("?".into(), |size| size.to_string())
    );
    for Feature { name, found, detail, instead } in features {
        let more = if detail.is_empty() { String::new() } else { format!(" ({detail})") };
        said += &match found {
            true => format!("{name:width$}  found{more}\n"),
            false => format!("{name:width$}  not found{more}; instead: {instead}\n"),
        };
    }
    said
}

fn kernel() -> String {
    let name = nix::sys::utsname::uname();
    name.map_or_else(|_| "unknown".into(), |name| name.release().to_string_lossy().into_owned())
}

fn page_size() -> Option<libc::c_long> {
    nix::unistd::sysconf(nix::unistd::SysconfVar::PAGE_SIZE).ok().flatten()
}
