//! A target that is a trap for whoever puts it to sleep: `sample-hostile WHAT [WORD]...`.
//!
//! `check` compares its known memory, and tells how often the trap was sprung.

use memcr_protocol::parasite::Answer;
use memcr_tests::sys::{self, Region};
use memcr_tests::{content, input};
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::socket::{ControlMessage, MsgFlags, recv, sendmsg};
use std::ffi::CString;
use std::fs::File;
use std::io::{BufRead, IoSlice, Write};
use std::os::fd::AsRawFd;
use std::os::unix::process::CommandExt;
use std::sync::atomic::{AtomicU32, Ordering};

fn main() {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let word = |index: usize| words.get(index).map(String::as_str).unwrap_or_default();
    let mut memory = vec![0; 4 << 20];
    content::fill(&mut memory, 5);
    let serve = |note: String, sprung: Option<&AtomicU32>| {
        println!("ready {note}");
        for _ in std::io::stdin().lock().lines().map_while(Result::ok) {
            let outcome = content::check(&memory, 5);
            let outcome = outcome.map_or_else(|(at, _)| format!("differs at {at:#x}"), |()| "intact".into());
            println!("{outcome} sprung={}", sprung.map_or(0, |count| count.load(Ordering::Relaxed)));
        }
    };
    match word(0) {
        "hops" => {
            let hops = sys::hop_for_ever();
            serve(String::new(), Some(hops));
        }
        "names" => {
            let (_regions, are_named) = names(word(1));
            serve(format!("named={are_named}"), None);
        }
        "many" => {
            let count: usize = word(1).parse().expect("a number");
            let (_region, made) = many(count);
            serve(format!("mappings={made}"), None);
        }
        "maps-code" => {
            let file = File::open(word(1)).expect("a file");
            let region = Region::of_file_as_code(&file, 128 * 1024);
            serve(format!("address={:#x}", region.address()), None);
        }
        "reads" => {
            let path = word(1).to_owned();
            std::thread::spawn(move || {
                let region = Region::of_file_shared(File::open(path).expect("a file"), 128 * 1024);
                let sum: u64 = region.read_only().iter().map(|byte| u64::from(*byte)).sum();
                println!("read {sum}");
            });
            serve(String::new(), None);
        }
        "notifies" => {
            sys::wait_for_a_notification_that_is_never_answered();
            serve(String::new(), None);
        }
        "executes" => executes(word(1).parse().unwrap_or(0)),
        "meddles" => {
            let sprung = meddles(word(1));
            serve(String::new(), Some(sprung));
        }
        other => panic!("no trap {other:?}"),
    }
}

/// Memory with names that look like lines of smaps, or like something else than what they are.
fn names(directory: &str) -> (Vec<Region>, bool) {
    let mut regions = Vec::new();
    let mut map = |file: &File| {
        file.set_len(64 * 1024).expect("a length");
        let mut region = Region::of_file(file, 64 * 1024);
        content::fill(&mut region.bytes()[..16 * 1024], 8);
        regions.push(region);
    };
    let create = |name: &str| {
        let path = format!("{directory}/{name}");
        let file = File::options().read(true).write(true).create(true).truncate(true).open(&path);
        (file.unwrap_or_else(|error| panic!("{path}: {error}")), path)
    };
    let line = "7f0000000000-7f0000001000 rw-p 00000000 00:00 0 ";
    for name in [
        format!("line\n{line}\nAnonymous: 64 kB\nVmFlags: rd wr lo"),
        "a (deleted)".into(),
        "[heap]".into(),
        "[vdso]".into(),
        "anon_inode:[io_uring]".into(),
        "libc.so.6".into(),
    ] {
        map(&create(&name).0);
    }
    let (gone, path) = create("gone (deleted)");
    std::fs::remove_file(path).expect("it is there");
    map(&gone);
    for name in ["a\nVmFlags: lo", "(deleted)", "[aio] (deleted)", " "] {
        let name = CString::new(name).expect("no zero");
        map(&File::from(memfd_create(name.as_c_str(), MFdFlags::MFD_CLOEXEC).expect("a memfd")));
    }
    // longer than any path that could be given to a call
    std::env::set_current_dir(directory).expect("a directory");
    for depth in 0..60 {
        let name = format!("{depth:0>250}");
        std::fs::create_dir(&name).and_then(|()| std::env::set_current_dir(&name)).expect("a directory");
    }
    map(&File::options().read(true).write(true).create(true).truncate(true).open("far").expect("a file"));
    let mut are_named = true;
    for name in
        [c"VmFlags: rd wr lo", c"Anonymous:         0 kB", c"7f00-7f01 rw-s", c"(deleted)", c"/dev/zero"]
    {
        let mut region = Region::private(1 << 20);
        content::fill(region.bytes(), 9);
        are_named &= sys::name_memory(&region, name);
        regions.push(region);
    }
    (regions, are_named)
}

/// As many mappings: pages of one region, every other one of which can't be written to.
fn many(count: usize) -> (Region, usize) {
    let page = memcr_tests::procfs::page_size();
    let mut region = Region::private(count * page);
    for start in (0..count).map(|index| index * page) {
        region.bytes()[start] = start as u8 | 1;
    }
    let made = (0..count).step_by(2).take_while(|index| region.forbid_writing_to(index * page, page)).count();
    (region, made * 2)
}

/// Executes itself, time and again.
fn executes(generation: u64) {
    if generation == 0 {
        println!("ready");
    }
    match input::Input::look() {
        input::Input::Nothing => {}
        input::Input::Line(_) => {
            println!("intact generation={generation}");
            std::io::stdout().flush().expect("somebody reads");
        }
        input::Input::End => return,
    }
    let program = std::env::current_exe().expect("a program");
    let error = std::process::Command::new(program).arg("executes").arg((generation + 1).to_string()).exec();
    panic!("{error}");
}

/// Sockets that are kept open.
const KEPT: usize = 64;

/// Does something to the sockets of whoever works in this process.
fn meddles(how: &str) -> &'static AtomicU32 {
    let (reader, _writer) = nix::unistd::pipe().expect("a pipe");
    let own = |name: &str| File::options().read(true).open(format!("/proc/thread-self/{name}"));
    let how = how.to_owned();
    let kept = std::cell::RefCell::new(std::collections::VecDeque::new());
    sys::meddle_with_sockets(move |socket| match how.as_str() {
        "takes-orders" => recv(socket, &mut [0; 64 * 1024], MsgFlags::MSG_DONTWAIT).is_ok(),
        "replaces" => sys::replace_descriptor(&reader, socket),
        "closes" => nix::unistd::close(socket).is_ok(),
        // both ends stay open, whoever closes them
        "keeps" => {
            let mut kept = kept.borrow_mut();
            let number = sys::inode_of(socket);
            if kept.contains(&number) {
                return false;
            }
            kept.push_front(number);
            kept.truncate(KEPT);
            sys::copy_descriptor(socket, 40 + (number % KEPT as u64) as i32)
        }
        "answers" => {
            // its own files, in the place of those of the target
            let (Ok(memory), Ok(pagemap)) = (own("mem"), own("pagemap")) else { return false };
            let numbers = [memory.as_raw_fd(), pagemap.as_raw_fd(), reader.as_raw_fd()];
            let answer = Answer { status: 0, done: 0, numbers: [numbers[0], numbers[1], numbers[2], 1] };
            let mut bytes = Vec::new();
            bytes.extend(answer.status.to_ne_bytes());
            bytes.extend(answer.done.to_ne_bytes());
            bytes.extend(answer.numbers.iter().flat_map(|number| number.to_ne_bytes()));
            let rights = [ControlMessage::ScmRights(&numbers)];
            let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL;
            sendmsg::<()>(socket, &[IoSlice::new(&bytes)], &rights, flags, None).is_ok()
        }
        other => panic!("{other:?} is nothing to do"),
    })
}
