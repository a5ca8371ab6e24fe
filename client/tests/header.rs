//! The C header is what the code says. After a change: `MEMCR_UPDATE_HEADER=1 cargo test -p memcr-client --test header`.

#![allow(clippy::expect_used, clippy::unwrap_used, reason = "tests")]

use cbindgen::{Builder, Config, DocumentationStyle, EnumConfig, ExportConfig, Language, RenameRule, Style};
use std::path::Path;

const UPDATE: &str = "MEMCR_UPDATE_HEADER";

const HEAD: &str = "\
/* libmemcrclient.so: asks a memcr daemon to put processes to sleep and to wake them. Link with -lmemcrclient.
 *
 * The first four functions, memcr_client_*, are those of the original memcr. The others are newer: they say why
 * something failed, and what was done. doc/c-library.md has an example of both.
 *
 * Made by cbindgen from client/src/c_interface: change the comments there. */";

/// Names in Rust and in C.
const NAMES: [(&str, &str); 9] = [
    ("MemcrCode", "memcr_code"),
    ("MemcrCompression", "memcr_compression"),
    ("MemcrState", "memcr_state"),
    ("MemcrGuard", "memcr_guard"),
    ("MemcrConnection", "memcr_connection"),
    ("MemcrCheckpointOptions", "memcr_checkpoint_options"),
    ("MemcrSleepResult", "memcr_sleep_result"),
    ("MemcrWakeResult", "memcr_wake_result"),
    ("MemcrStatusResult", "memcr_status_result"),
];

fn generate() -> String {
    let names = NAMES.map(|(rust, c)| (rust.to_owned(), c.to_owned()));
    let config = Config {
        language: Language::C,
        style: Style::Both,
        cpp_compat: true,
        header: Some(HEAD.to_owned()),
        include_guard: Some("MEMCRCLIENT_H".to_owned()),
        no_includes: true,
        sys_includes: vec!["stdint.h".to_owned()],
        documentation_style: DocumentationStyle::Doxy,
        line_length: 110,
        tab_width: 4,
        enumeration: EnumConfig {
            rename_variants: RenameRule::QualifiedScreamingSnakeCase,
            ..EnumConfig::default()
        },
        export: ExportConfig {
            // no function takes or gives these: they are members, as numbers
            include: ["MemcrCompression", "MemcrState", "MemcrGuard"].map(str::to_owned).to_vec(),
            rename: names.into_iter().collect(),
            ..ExportConfig::default()
        },
        ..Config::default()
    };
    let sources = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/c_interface");
    let mut builder = Builder::new().with_config(config);
    for file in ["original.rs", "codes.rs", "structures.rs", "ours.rs"] {
        builder = builder.with_src(sources.join(file));
    }
    let mut header = Vec::new();
    builder.generate().expect("cbindgen understands the sources").write(&mut header);
    String::from_utf8(header).unwrap()
}

#[test]
fn the_header_is_what_the_code_says() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("include/memcrclient.h");
    let generated = generate();
    if std::env::var_os(UPDATE).is_some() {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, &generated).unwrap();
    }
    let checked_in = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        checked_in == generated,
        "{} is not what the code says; to write it anew:\n    {UPDATE}=1 cargo test -p memcr-client --test header",
        path.display()
    );
}
