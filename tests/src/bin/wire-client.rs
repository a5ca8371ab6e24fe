//! Speaks bytes with a daemon, as the user and in the namespaces that this is run in.
//!
//! `wire-client SOCKET` connects and says `ready`. Then each line of input is answered by a line: `send HEX` (`sent`,
//! or why not), `answer` (`answer=NUMBER` for four bytes, `end` for fewer), `rest` (`rest=HEX` to the end), `half`
//! (`half`; nothing more is sent), `close` (`closed`), `connect` (`connected`, anew).

use std::io::{self, Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;

fn main() {
    let socket = std::env::args().nth(1).expect("give a socket");
    let connect = || UnixStream::connect(&socket).expect("cannot connect");
    let mut stream = Some(connect());
    println!("ready pid={}", std::process::id());
    for line in io::stdin().lines() {
        let line = line.expect("lines of text");
        let (word, rest) = line.split_once(' ').unwrap_or((&line, ""));
        let answer = match (word, &mut stream) {
            ("send", Some(stream)) => match stream.write_all(&bytes(rest)) {
                Ok(()) => "sent".to_owned(),
                Err(error) => error.to_string(),
            },
            ("answer", Some(stream)) => answer(stream),
            ("rest", Some(stream)) => everything(stream),
            ("half", Some(stream)) => {
                // the daemon may have hung up
                let _ = stream.shutdown(Shutdown::Write);
                "half".into()
            }
            ("close", _) => {
                stream = None;
                "closed".into()
            }
            ("connect", _) => {
                stream = Some(connect());
                "connected".into()
            }
            _ => panic!("there is no {line:?} now"),
        };
        println!("{answer}");
    }
}

fn bytes(text: &str) -> Vec<u8> {
    let digits: Vec<_> = text.chars().map(|digit| digit.to_digit(16).expect("a digit") as u8).collect();
    digits.chunks(2).map(|pair| pair[0] << 4 | pair[1]).collect()
}

fn answer(stream: &mut UnixStream) -> String {
    let mut bytes = [0; 4];
    match stream.read_exact(&mut bytes) {
        Ok(()) => format!("answer={}", i32::from_ne_bytes(bytes)),
        // closed, with something unread or without
        Err(_) => "end".into(),
    }
}

fn everything(stream: &mut UnixStream) -> String {
    let mut bytes = Vec::new();
    // one that is closed with something unread ends with an error, after all that was sent
    let _ = stream.read_to_end(&mut bytes);
    let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("rest={hex}")
}
