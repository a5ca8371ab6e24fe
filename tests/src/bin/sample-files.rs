//! A target that maps a file twice, privately with some pages changed, and shared: `sample-files PATH`.
//!
//! PATH holds known content. `check` compares all of it.

use memcr_tests::{content, sys};
use std::fs::File;
use std::io::BufRead;

const PAGE: usize = 4096;

fn main() {
    let path = std::env::args().nth(1).expect("a path");
    let file = File::options().read(true).open(path).expect("the file can be read");
    let length = usize::try_from(file.metadata().expect("its size").len()).expect("it fits");
    let mut private = sys::Region::of_file(&file, length);
    let shared = sys::Region::of_file_shared(&file, length);
    // every fourth page is this process's own from now on
    for page in private.bytes().chunks_mut(PAGE).step_by(4) {
        page.fill(0xa5);
    }
    let check = |private: &mut sys::Region| -> Result<(), String> {
        let mut expected = vec![0; length];
        content::fill(&mut expected, 8);
        if shared.read_only() != expected {
            return Err("the shared mapping differs".into());
        }
        for page in expected.chunks_mut(PAGE).step_by(4) {
            page.fill(0xa5);
        }
        if private.bytes() == expected { Ok(()) } else { Err("the private mapping differs".into()) }
    };
    check(&mut private).expect("it is as it should be");
    println!("ready pid={}", std::process::id());
    for line in std::io::stdin().lock().lines().map_while(Result::ok) {
        if line == "check" {
            println!("{}", check(&mut private).map_or_else(|error| error, |()| "intact".into()));
        }
    }
}
