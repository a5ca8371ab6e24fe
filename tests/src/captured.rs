//! A broker in the hands of an attacker: this test speaks to a real launcher in its place.

use crate::binaries;
use crate::client::{Client, Running};
use crate::network::Network;
use crate::scratch::Scratch;
use crate::users::{User, cast};
use memcr_protocol::frame::{self, Message};
use memcr_protocol::image::ImageSettings;
use memcr_protocol::launcher::{Clients, Job, LauncherReport, PolicySource, SleepOptions, Transport};
use memcr_protocol::sandbox::Strictness;
use memcr_protocol::subject::Peer;
use memcr_protocol::worker::{WorkerCommand, WorkerEvent};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{
    AddressFamily, ControlMessage, MsgFlags, SockFlag, SockType, recv, sendmsg, setsockopt, socketpair,
    sockopt,
};
use nix::sys::time::TimeVal;
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use serde_json::Value;
use std::io::IoSlice;
use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

/// Where the launcher's standard error goes.
const LOG: &str = "launcher.log";

/// One end of a socket that keeps packets apart.
#[derive(Debug)]
pub struct Channel(OwnedFd);

impl Channel {
    /// A pair; the second is for the other side.
    pub fn pair() -> (Self, OwnedFd) {
        let pair = socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::SOCK_CLOEXEC);
        let (ours, theirs) = pair.expect("socketpair");
        setsockopt(&ours, sockopt::ReceiveTimeout, &TimeVal::new(30, 0)).expect("SO_RCVTIMEO");
        (Self(ours), theirs)
    }

    /// Sends one message with these descriptors.
    pub fn send<M: Message>(&self, message: &M, descriptors: &[BorrowedFd<'_>]) {
        self.send_bytes(&frame::encode(message).expect("it fits"), descriptors);
    }

    /// Sends one packet of any bytes.
    pub fn send_bytes(&self, bytes: &[u8], descriptors: &[BorrowedFd<'_>]) {
        self.try_send_bytes(bytes, descriptors).expect("sendmsg");
    }

    /// The same to somebody who may have hung up.
    ///
    /// # Errors
    /// What sendmsg(2) says.
    pub fn try_send_bytes(&self, bytes: &[u8], descriptors: &[BorrowedFd<'_>]) -> nix::Result<()> {
        self.send_with(bytes, descriptors, MsgFlags::empty())
    }

    fn send_with(&self, bytes: &[u8], descriptors: &[BorrowedFd<'_>], flags: MsgFlags) -> nix::Result<()> {
        let numbers: Vec<_> = descriptors.iter().map(AsRawFd::as_raw_fd).collect();
        let rights = [ControlMessage::ScmRights(&numbers)];
        let rights = if numbers.is_empty() { &[][..] } else { &rights };
        let slices = [IoSlice::new(bytes)];
        sendmsg::<()>(self.0.as_raw_fd(), &slices, rights, MsgFlags::MSG_NOSIGNAL | flags, None).map(drop)
    }

    /// The same if there is room for it.
    ///
    /// # Errors
    /// EAGAIN if there is none.
    pub fn offer_bytes(&self, bytes: &[u8], descriptors: &[BorrowedFd<'_>]) -> nix::Result<()> {
        self.send_with(bytes, descriptors, MsgFlags::MSG_DONTWAIT)
    }

    /// All packets that are there; descriptors that came along are closed.
    pub fn drain(&self) -> Vec<Vec<u8>> {
        let mut packets = Vec::new();
        let mut packet = vec![0; 64 * 1024];
        while let Ok(length @ 1..) = recv(self.0.as_raw_fd(), &mut packet, MsgFlags::MSG_DONTWAIT) {
            packets.push(packet[..length].to_vec());
        }
        packets
    }

    /// Waits until there is a packet, or room for one.
    pub fn wait_until_ready(&self) {
        let mut polled = [PollFd::new(self.0.as_fd(), PollFlags::POLLIN | PollFlags::POLLOUT)];
        poll(&mut polled, PollTimeout::from(30_000_u16)).expect("poll");
        assert!(polled[0].any() == Some(true), "the launcher neither reads nor answers");
    }

    /// Whether the other end is closed, or has shut the connection down.
    pub fn is_hung_up(&self) -> bool {
        let mut polled = [PollFd::new(self.0.as_fd(), PollFlags::empty())];
        poll(&mut polled, PollTimeout::ZERO).expect("poll");
        polled[0].revents().is_some_and(|events| events.contains(PollFlags::POLLHUP))
    }

    /// The next message; `None` once the other end is closed.
    pub fn receive<M: Message>(&self) -> Option<M> {
        let mut packet = vec![0; 600 * 1024];
        let mut received = recv(self.0.as_raw_fd(), &mut packet, MsgFlags::empty());
        if received == Err(nix::errno::Errno::ECONNRESET) {
            // told once, before what came last: the other end was closed with something unread in it
            received = recv(self.0.as_raw_fd(), &mut packet, MsgFlags::empty());
        }
        match received {
            Ok(0) | Err(nix::errno::Errno::ECONNRESET) => None,
            Ok(length) => Some(frame::decode(&packet[..length]).expect("a frame of ours")),
            Err(error) => panic!("nothing came: {error}"),
        }
    }
}

/// The broker's side of a launcher.
#[derive(Debug)]
pub struct CapturedBroker {
    launcher: Child,
    /// The job channel.
    pub jobs: Channel,
    scratch: Scratch,
    images: PathBuf,
}

impl CapturedBroker {
    /// Starts a launcher as `memcr` does, but for the set-up.
    pub fn start() -> Self {
        Self::start_in(None)
    }

    /// The same in a network of its own.
    fn start_in(network: Option<&Network>) -> Self {
        let scratch = Scratch::new();
        let images = scratch.directory_of(&cast().daemon, "images");
        let (jobs, theirs) = Channel::pair();
        let launcher = launch(theirs, &scratch, network);
        Self { launcher, jobs, scratch, images }
    }

    /// Ends the launcher, if it has not ended, and starts another one in its place, with the built-in policy.
    pub fn start_again(&mut self) {
        self.end();
        let (jobs, theirs) = Channel::pair();
        (self.launcher, self.jobs) = (launch(theirs, &self.scratch, None), jobs);
    }

    /// Sets up a launcher that isn't yet, with the built-in policy.
    pub fn set_up_again(&self) {
        let (setup, device) = self.built_in_setup();
        self.jobs.send(&setup, &[device.as_fd()]);
        assert_eq!(self.jobs.receive(), Some(LauncherReport::Ready { missing: Vec::new() }));
    }

    /// The set-up with the built-in policy, and the descriptor that comes with it.
    pub fn built_in_setup(&self) -> (Job, std::fs::File) {
        let address = self.address().as_os_str().as_bytes().to_vec();
        (setup_of(Clients::AcceptedAt(address), None), device())
    }

    /// What the launcher and its workers have put on record so far.
    ///
    /// # Panics
    /// When a line that begins like a record is none.
    pub fn records(&self) -> Vec<Value> {
        let log = std::fs::read_to_string(self.scratch.path().join(LOG)).expect("a log");
        let records = log.lines().filter(|line| line.starts_with('{'));
        records
            .map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}")))
            .collect()
    }

    /// All that the launcher and its workers have said.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.scratch.path().join(LOG)).expect("a log")
    }

    /// The directory for images.
    pub fn images(&self) -> &std::path::Path {
        &self.images
    }

    fn end(&mut self) {
        let _ = self.launcher.kill();
        let _ = self.launcher.wait();
    }

    /// Starts a launcher and sets it up with the built-in policy.
    pub fn with_set_up_launcher() -> Self {
        let broker = Self::start();
        let address = broker.address().as_os_str().as_bytes().to_vec();
        broker.set_up(Clients::AcceptedAt(address), None)
    }

    /// The same for clients that come over TCP to these addresses, by a policy file perhaps, in a network of its
    /// own perhaps.
    pub fn over_tcp(addresses: &[SocketAddr], policy: Option<&str>, network: Option<&Network>) -> Self {
        Self::start_in(network).set_up(Clients::AcceptedOverTcp(addresses.to_vec()), policy)
    }

    fn set_up(self, clients: Clients, policy: Option<&str>) -> Self {
        let (setup, device) = (setup_of(clients, policy), device());
        let file = policy.map(|text| {
            std::fs::File::open(self.scratch.file("policy.toml", text)).expect("root may open it")
        });
        let descriptors: Vec<_> = file.iter().map(AsFd::as_fd).chain([device.as_fd()]).collect();
        self.jobs.send(&setup, &descriptors);
        assert_eq!(self.jobs.receive(), Some(LauncherReport::Ready { missing: Vec::new() }));
        self
    }

    /// Whom the launcher names at the other end of a socket.
    pub fn identify(&self, client: impl AsFd) -> Option<Peer> {
        self.jobs.send(&Job::Identify { ticket: 77 }, &[client.as_fd()]);
        loop {
            match self.jobs.receive().expect("the launcher lives") {
                LauncherReport::Identified { ticket: 77, peer } => return peer,
                // of sleeps before
                LauncherReport::Started { .. } | LauncherReport::Ended { .. } => {}
                other => panic!("the launcher says {other:?}"),
            }
        }
    }

    /// Process id of the launcher.
    pub fn launcher(&self) -> i32 {
        i32::try_from(self.launcher.id()).expect("a pid is an i32")
    }

    /// The address at which clients connect.
    pub fn address(&self) -> PathBuf {
        self.scratch.path().join("clients.sock")
    }

    /// Orders a sleep for the client of this socket; gives the control channel of its worker.
    pub fn order_sleep(&self, ticket: u64, client: impl AsFd, target: i32) -> Channel {
        let (control, theirs) = Channel::pair();
        let number = Pid::from_raw(target).expect("a pid");
        let pidfd = pidfd_open(number, PidfdFlags::empty()).expect("a pidfd");
        let images = std::fs::File::open(&self.images).expect("root may open it");
        let job = Job::Sleep { ticket, options: SleepOptions::default() };
        self.jobs.send(&job, &[theirs.as_fd(), client.as_fd(), pidfd.as_fd(), images.as_fd()]);
        control
    }

    /// A socket at whose other end there is a process of `user`, and that process.
    pub fn client_of(&self, user: &User) -> (UnixStream, Running) {
        let path = self.address();
        let _ = std::fs::remove_file(&path);
        let listener = UnixListener::bind(&path).expect("a socket");
        crate::scratch::set_mode(&path, 0o666);
        let process = Client::new(user, &path).start(&["--list"]);
        (listener.accept().expect("it connects").0, process)
    }

    /// Waits until the launcher ends; gives its exit status, unless a signal has ended it.
    pub fn wait_for_end(&mut self) -> Option<i32> {
        self.wait_for_end_while(|_| {})
    }

    /// The same, and does something meanwhile.
    pub fn wait_for_end_while(&mut self, mut act: impl FnMut(&Channel)) -> Option<i32> {
        let launcher = &mut self.launcher;
        let end = crate::wait::until_some("the launcher ends", crate::wait::BOUND, || {
            act(&self.jobs);
            launcher.try_wait().expect("cannot wait for the launcher")
        });
        end.code()
    }
}

impl AsFd for Channel {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl Drop for CapturedBroker {
    fn drop(&mut self) {
        self.end();
    }
}

/// Starts a launcher as `memcr` does: it finds its socket as descriptor 3.
fn launch(jobs: OwnedFd, scratch: &Scratch, network: Option<&Network>) -> Child {
    let worker = binaries::path("memcr-worker");
    let user = &cast().daemon;
    let script = format!(
        "exec 3<&0 </dev/null; exec setpriv --reuid={} --regid={} --clear-groups --inh-caps=-all,+sys_ptrace \
         --ambient-caps=-all,+sys_ptrace --bounding-set=-all,+sys_ptrace --no-new-privs -- env -i {}",
        user.uid,
        user.gid,
        worker.display()
    );
    let mut command = Command::new("/bin/sh");
    command.args(["-c", &script]);
    if let Some(network) = network {
        command = network.command(&command);
    }
    let log = std::fs::File::options().append(true).create(true).open(scratch.path().join(LOG));
    command.stdin(Stdio::from(jobs)).stdout(Stdio::null()).stderr(log.expect("a log"));
    command.spawn().expect("cannot start the launcher")
}

fn device() -> std::fs::File {
    let device = std::fs::File::options().read(true).write(true).open("/dev/userfaultfd");
    device.expect("root may open /dev/userfaultfd")
}

fn setup_of(clients: Clients, policy: Option<&str>) -> Job {
    Job::Setup {
        image: ImageSettings::default(),
        drop_file_pages: false,
        transport: Transport::Taken,
        sandbox: Strictness::Strict,
        policy: policy.map(|_| PolicySource { path: "policy.toml".into(), owner: 0 }),
        userfaultfd: true,
        listen_group: Some(cast().socket_group),
        clients,
    }
}

/// Takes events up to the last: `Asleep`, `Awake`, `Failed`, or a decision about a restore.
pub fn until_settled(control: &Channel) -> Vec<WorkerEvent> {
    let mut events = Vec::new();
    while let Some(event) = control.receive() {
        let is_last = matches!(
            event,
            WorkerEvent::Asleep(_)
                | WorkerEvent::Awake(_)
                | WorkerEvent::Failed(_)
                | WorkerEvent::RestoreDenied { .. }
        );
        events.push(event);
        if is_last {
            break;
        }
    }
    events
}

/// Sends an order to wake for the client of this socket.
pub fn order_restore(control: &Channel, ticket: u64, client: impl AsFd) {
    control.send(&WorkerCommand::Restore { ticket }, &[client.as_fd()]);
}
