//! A connection over a real socketpair.

use super::*;
use crate::sys::process::open_pidfd;
use memcr_protocol::client::{ClientFrame, Completion, Request, VERSION};
use std::fs::File;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::net::UnixStream;

fn connected() -> (UnixStream, Connection) {
    let (client, server) = UnixStream::pair().unwrap();
    (client, Connection::new(server).unwrap())
}

fn hello() -> Vec<u8> {
    encode(&ClientFrame::Hello { version: VERSION }).unwrap()
}

fn restore(id: u32) -> ClientFrame {
    ClientFrame::Request { id, request: Request::Restore }
}

fn answer() -> ServerFrame {
    ServerFrame::Answer { id: 1, answer: Answer::Done(Completion::Listed) }
}

#[test]
fn a_frame_arrives_however_it_is_cut() {
    let (mut client, mut connection) = connected();
    for byte in hello() {
        assert!(connection.next_said().unwrap().is_none());
        client.write_all(&[byte]).unwrap();
        assert!(matches!(connection.read(), Ok(Incoming::Bytes)));
    }
    assert_eq!(connection.next_said().unwrap(), Some(Said::Frame(ClientFrame::Hello { version: VERSION })));
    assert!(matches!(connection.read(), Ok(Incoming::Nothing)));
}

#[test]
fn a_pidfd_stays_with_its_frame() {
    let (client, mut connection) = connected();
    let pidfd = open_pidfd(std::process::id().try_into().unwrap()).unwrap();
    for id in 1..=3 {
        send(client.as_fd(), &encode(&restore(id)).unwrap(), &[pidfd.as_fd()]).unwrap();
    }
    for id in 1..=3 {
        // the kernel doesn't run messages with descriptors together
        assert!(matches!(connection.read(), Ok(Incoming::Bytes)));
        assert_eq!(connection.next_said().unwrap(), Some(Said::Frame(restore(id))));
        assert!(connection.take_pidfd().is_some() && connection.take_pidfd().is_none());
    }
}

#[test]
fn a_descriptor_that_is_no_pidfd_is_a_violation_and_is_closed_elsewhere() {
    let (client, mut connection) = connected();
    let file = File::open("/dev/null").unwrap();
    send(client.as_fd(), &hello(), &[file.as_fd()]).unwrap();
    assert!(matches!(connection.read(), Err(Violation::ForeignDescriptor)));
    assert_eq!((connection.take_foreign().len(), connection.take_foreign().len()), (1, 0));
    assert!(connection.part().is_empty());
}

#[test]
fn descriptors_that_nobody_read_take_one_place_and_bytes_none() {
    let (client, mut connection) = connected();
    let file = File::open("/dev/null").unwrap();
    for _ in 0..20 {
        send(client.as_fd(), b"unread", &[file.as_fd(), file.as_fd()]).unwrap();
    }
    assert!(connection.send(&answer()));
    let rest = connection.part();
    assert_eq!(rest.len(), 1);
    let mut text = Vec::new();
    (&client).read_to_end(&mut text).unwrap();
    assert_eq!(text, encode(&answer()).unwrap());
    let (client, connection) = connected();
    send(client.as_fd(), &[0; 30_000], &[]).unwrap();
    assert!(connection.part().is_empty());
}

#[test]
fn more_descriptors_than_a_frame_may_have_are_a_violation() {
    let (client, mut connection) = connected();
    let pidfd = open_pidfd(std::process::id().try_into().unwrap()).unwrap();
    send(client.as_fd(), &hello(), &[pidfd.as_fd(); 5]).unwrap();
    assert!(matches!(connection.read(), Err(Violation::TooManyDescriptors)));
}

#[test]
fn a_length_over_the_limit_is_a_violation_before_the_body_arrives() {
    let (mut client, mut connection) = connected();
    client.write_all(&u32::MAX.to_le_bytes()).unwrap();
    connection.read().unwrap();
    assert!(matches!(connection.next_said(), Err(Violation::Frame(FrameError::TooLong { .. }))));
}

#[test]
fn a_client_with_enough_under_way_waits_with_the_next_request() {
    let (mut client, mut connection) = connected();
    client.write_all(&encode(&restore(1)).unwrap()).unwrap();
    connection.read().unwrap();
    connection.under_way = MAX_UNDER_WAY;
    assert!(!connection.wanted().contains(EpollFlags::EPOLLIN));
    assert!(connection.next_said().unwrap().is_none());
    connection.under_way -= 1;
    assert_eq!(connection.next_said().unwrap(), Some(Said::Frame(restore(1))));
}

#[test]
fn a_client_that_does_not_read_is_waited_for_but_not_for_ever() {
    let (mut client, mut connection) = connected();
    connection.heard();
    while connection.is_flushed() {
        assert!(connection.send(&answer()));
    }
    assert!(connection.wanted().contains(EpollFlags::EPOLLOUT) && connection.is_timed());
    let later = Instant::now() + PATIENCE + Duration::from_secs(1);
    assert!(connection.is_overdue(later) && !connection.is_overdue(Instant::now()));
    let mut read = vec![0; 1 << 20];
    assert!(client.read(&mut read).unwrap() > 0);
    assert!(connection.flush() && connection.is_flushed());
    assert!(!connection.is_overdue(later));
}

#[test]
fn output_that_nobody_reads_is_bounded() {
    let (_client, mut connection) = connected();
    let mut sent = 0_usize;
    while connection.send(&answer()) {
        sent += 1;
        assert!(sent < 2 * TOO_MUCH_OUTPUT);
    }
    assert!(connection.output.len() <= TOO_MUCH_OUTPUT + 16);
}

#[test]
fn progress_is_left_out_for_a_client_that_does_not_keep_up() {
    let (_client, mut connection) = connected();
    while connection.output.len() < ENOUGH_OUTPUT {
        connection.send(&answer());
    }
    let before = connection.output.len();
    assert!(connection.send_if_read(&answer()));
    assert_eq!(connection.output.len(), before);
    assert!(!connection.wanted().contains(EpollFlags::EPOLLIN));
}

#[test]
fn a_client_that_closes_its_sending_half_still_gets_its_answer() {
    let (mut client, mut connection) = connected();
    connection.stage = Stage::Ready(Rc::new(connection.asker(None)));
    client.shutdown(std::net::Shutdown::Write).unwrap();
    connection.under_way = 1;
    assert!(matches!(connection.read(), Ok(Incoming::End)));
    assert!(!connection.is_done());
    connection.under_way = 0;
    assert!(connection.send(&answer()) && connection.is_done());
    drop(connection);
    let mut text = Vec::new();
    client.read_to_end(&mut text).unwrap();
    assert_eq!(text, encode(&answer()).unwrap());
}

#[test]
fn silence_at_first_is_timed_and_ends_with_the_hello() {
    let (_client, mut connection) = connected();
    let later = Instant::now() + PATIENCE + Duration::from_secs(1);
    assert!(connection.is_overdue(later) && connection.idle_since().is_some());
    connection.heard();
    assert!(!connection.is_overdue(later));
    connection.under_way = 1;
    assert!(connection.idle_since().is_none());
}

#[test]
fn a_client_that_the_kernel_can_not_name_stays_unknown_even_if_it_is_looked_up() {
    let (_client, connection) = connected();
    let peer = || connection.asker(None).peer;
    assert!(!connection.asker(None).known && !connection.asker(None).looked_up);
    assert!(connection.asker(Some(peer())).known);
    let (_client, socket) = UnixStream::pair().unwrap();
    let nobody = Connection::of_user(socket, UNKNOWN_USER).unwrap();
    let asker = nobody.asker(Some(peer()));
    assert!(nobody.can_be_named() && asker.looked_up && !asker.known);
}

/// A client over TCP, and what the daemon accepted.
fn over_tcp() -> (TcpStream, Connection) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let (socket, address) = listener.accept().unwrap();
    let accepted = Accepted { socket: socket.into(), address: Some(address) };
    (client, Connection::accepted(accepted).unwrap())
}

#[test]
fn a_client_over_tcp_is_the_unknown_user_until_it_is_named() {
    let (client, mut connection) = over_tcp();
    assert_eq!((connection.uid(), connection.can_be_named()), (UNKNOWN_USER, true));
    connection.identify(Some(Peer::by_socket(1000)));
    assert_eq!(connection.uid(), 1000);
    let Stage::Ready(asker) = &connection.stage else { panic!("{:?}", connection.stage) };
    assert!(asker.known && asker.looked_up);
    assert_eq!(asker.address, Some(client.local_addr().unwrap()));
}

#[test]
fn a_client_over_tcp_that_can_not_be_named_stays_unknown_and_an_anonymous_one_is_known_to_be_that() {
    for (found, known) in
        [(None, false), (Some(Peer::by_socket(UNKNOWN_USER)), false), (Some(Peer::anonymous()), true)]
    {
        let (_client, mut connection) = over_tcp();
        connection.identify(found);
        let Stage::Ready(asker) = &connection.stage else { panic!("{:?}", connection.stage) };
        assert_eq!(asker.known, known, "{asker:?}");
        // no client that has a name shares its places with these
        assert!([UNKNOWN_USER, NO_ID].contains(&connection.uid()));
    }
}

#[test]
fn frames_arrive_over_tcp_and_answers_go_back() {
    let (mut client, mut connection) = over_tcp();
    client.write_all(&hello()).unwrap();
    assert!(matches!(connection.read(), Ok(Incoming::Bytes)));
    assert_eq!(connection.next_said().unwrap(), Some(Said::Frame(ClientFrame::Hello { version: VERSION })));
    assert!(connection.send(&answer()) && connection.is_flushed());
    client.read_exact(&mut [0; 4]).unwrap();
    client.shutdown(std::net::Shutdown::Write).unwrap();
    assert!(matches!(connection.read(), Ok(Incoming::End)));
    assert!(connection.part().is_empty());
}

const REPLY: [u8; 4] = (-2_i32).to_ne_bytes();

/// A connection over which a client of the original has sent these commands at once.
fn legacy(commands: usize) -> (UnixStream, Connection) {
    let (mut client, mut connection) = connected();
    for _ in 0..commands {
        client.write_all(&[100_u32.to_ne_bytes(), 7_u32.to_ne_bytes()].concat()).unwrap();
    }
    assert!(matches!(connection.read(), Ok(Incoming::Bytes)));
    connection.stage = Stage::Ready(Rc::new(connection.asker(None)));
    (client, connection)
}

fn answer_one(connection: &mut Connection) {
    assert!(matches!(connection.next_said(), Ok(Some(Said::Legacy(_, Wire::V1)))));
    connection.heard();
    connection.under_way = 1;
    assert!(connection.next_said().unwrap().is_none(), "one comes after the other");
    assert!(!connection.wanted().contains(EpollFlags::EPOLLIN));
    connection.under_way = 0;
    assert!(connection.send_reply(Reply::InvalidPid));
}

#[test]
fn a_client_of_the_original_is_answered_two_commands_one_after_the_other_and_then_parted_with() {
    let (mut client, mut connection) = legacy(3);
    answer_one(&mut connection);
    assert!(!connection.is_done());
    answer_one(&mut connection);
    assert!(connection.is_done());
    connection.part();
    let mut text = Vec::new();
    client.read_to_end(&mut text).unwrap();
    assert_eq!(text, [REPLY, REPLY].concat());
}

#[test]
fn a_second_command_is_waited_for_a_short_time() {
    let (_client, mut connection) = legacy(1);
    assert!(!connection.is_overdue(Instant::now() + SECOND_COMMAND * 2));
    answer_one(&mut connection);
    assert!(!connection.is_overdue(Instant::now()) && connection.is_timed());
    assert!(connection.is_overdue(Instant::now() + SECOND_COMMAND * 2));
}

#[test]
fn a_client_of_the_original_hears_minus_one_only_if_it_waits_for_an_answer() {
    let end = || Failure::new(memcr_protocol::code::Code::Limit, "no room");
    for (commands, expected) in [(1, REPLY.to_vec()), (2, [REPLY, (-1_i32).to_ne_bytes()].concat())] {
        let (mut client, mut connection) = legacy(commands);
        answer_one(&mut connection);
        assert!(connection.send_last(end()) && connection.send_if_read(&answer()));
        connection.part();
        let mut text = Vec::new();
        client.read_to_end(&mut text).unwrap();
        assert_eq!(text, expected);
    }
    let (mut client, mut connection) = connected();
    connection.send_last(end());
    connection.part();
    let mut text = Vec::new();
    client.read_to_end(&mut text).unwrap();
    assert!(String::from_utf8_lossy(&text).contains("no room"));
}

#[test]
fn what_a_client_that_is_gone_can_not_read_is_not_kept_for_it() {
    let (client, mut connection) = connected();
    connection.stage = Stage::Parting;
    drop(client);
    assert!(!connection.send(&answer()));
    assert!(connection.is_done());
}
