//! A file system with one file, `libc.so.6`, whose pages never come once it is told so: `sample-fuse DIRECTORY`.
//!
//! It speaks the kernel's own protocol (linux/fuse.h). Lines: `silence` answers no read any more, `answer` answers
//! those that wait, and all others; `waiting` tells
//! how many wait. It needs root, to mount.

use memcr_tests::fuse::FileSystem;
use memcr_tests::input::Input;

fn main() {
    let directory = std::env::args().nth(1).expect("a directory is needed");
    let mut files = FileSystem::mount(directory.as_ref());
    println!("ready directory={directory}");
    loop {
        files.serve_for_a_moment();
        match Input::look() {
            Input::Nothing => {}
            Input::Line(line) if line == "silence" => {
                files.set_silent(true);
                println!("silent");
            }
            Input::Line(line) if line == "waiting" => println!("waiting={}", files.waiting()),
            Input::Line(_) => {
                files.set_silent(false);
                println!("answering");
            }
            Input::End => return,
        }
    }
}
