//! Writes inputs to begin with into corpus/: run here with `RUSTFLAGS="--cfg fuzzing" cargo run --example seeds`.

use std::error::Error;
use std::fs;
use std::path::Path;

/// Most of a message is numbers, flags and lengths: zeros after each of its first bytes are good messages, and the
/// fuzzer makes the others from these.
fn frames() -> Vec<Vec<u8>> {
    let bodies = (0..12_u8).flat_map(|first| (1..48).map(move |length| (first, length)));
    bodies
        .map(|(first, length)| {
            let mut frame = u32::try_from(length).unwrap_or_default().to_le_bytes().to_vec();
            frame.push(first);
            frame.resize(4 + length, 0);
            frame
        })
        .collect()
}

/// Requests of the original's clients: words in the order of this machine.
fn requests() -> Vec<Vec<u8>> {
    let words: [&[u32]; 6] =
        [&[100, 7], &[101, 7], &[102, 8, 100, 7], &[102, 12, 100, 7, 1, 0], &[100, 7, 101, 7], &[102, 8, 101, 7, 100, 7]];
    words.iter().map(|words| words.iter().flat_map(|word| word.to_ne_bytes()).collect()).collect()
}

/// The example of doc/policy.md, and all texts of /proc of this process.
fn texts() -> Result<Vec<(&'static str, Vec<u8>)>, Box<dyn Error>> {
    let document = fs::read_to_string("../../doc/policy.md")?;
    let examples = document.split("```toml\n").skip(1).filter_map(|rest| rest.split_once("```"));
    let mut texts: Vec<_> = examples.map(|(toml, _)| ("policy_file", toml.as_bytes().to_vec())).collect();
    for file in ["status", "stat", "cgroup", "fdinfo/0"] {
        let text = fs::read(Path::new("/proc/self").join(file))?;
        texts.extend(["status", "proc_texts", "public_facts"].map(|target| (target, text.clone())));
    }
    let smaps = fs::read_to_string("/proc/self/smaps")?;
    let some: String = smaps.split_inclusive("VmFlags").take(3).collect();
    texts.push(("smaps", some.into_bytes()));
    texts.push(("proc_texts", b"pos:\t0\nPid:\t12\nNSpid:\t12\t3\nino:\t77\nAPI:\taa:0\ntotal:\t0\n".to_vec()));
    // a netlink header, an inet_diag_msg
    let mut answer = vec![88, 0, 0, 0, 20, 0, 0, 0, 7, 0, 0, 0, 0, 0, 0, 0, 2, 1];
    answer.resize(88, 9);
    texts.push(("socket_answer", answer));
    Ok(texts)
}

fn main() -> Result<(), Box<dyn Error>> {
    let mut seeds: Vec<(&str, Vec<u8>)> = texts()?;
    let messages =
        ["client_frame", "server_frame", "job", "launcher_report", "worker_command", "worker_event", "deposit"];
    for target in messages.into_iter().chain(["client_stream"]) {
        seeds.extend(frames().into_iter().map(|frame| (target, frame)));
    }
    for target in ["legacy_request", "client_stream"] {
        seeds.extend(requests().into_iter().map(|request| (target, request)));
    }
    #[cfg(fuzzing)]
    seeds.extend(memcr_worker::fuzzing::seeds());
    for (number, (target, bytes)) in seeds.iter().enumerate() {
        let folder = Path::new("corpus").join(target);
        fs::create_dir_all(&folder)?;
        fs::write(folder.join(format!("seed-{number}")), bytes)?;
    }
    Ok(())
}
