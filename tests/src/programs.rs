//! Real programs as targets, each run by the target's user and talked to as its own clients do.

use crate::scratch::Scratch;
use crate::target::Target;
use crate::users::{cast, required};
use crate::wait;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Duration;

/// A running program; killed when dropped.
#[derive(Debug)]
pub struct Program {
    child: Child,
}

impl Program {
    fn start(command: &mut Command) -> Self {
        let child = command.stdout(Stdio::null()).spawn();
        Self { child: child.unwrap_or_else(|error| panic!("cannot start {command:?}: {error}")) }
    }

    /// Its process id.
    pub fn pid(&self) -> i32 {
        i32::try_from(self.child.id()).expect("a pid is an i32")
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // the gentle way first: postgres and nginx have children of their own
        crate::daemon::send(self.pid(), nix::sys::signal::Signal::SIGTERM);
        let start = std::time::Instant::now();
        while matches!(self.child.try_wait(), Ok(None)) && start.elapsed() < Duration::from_secs(5) {
            wait::let_pass(Duration::from_millis(5));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// redis-server on a UNIX socket, without persistence.
#[derive(Debug)]
pub struct Redis {
    /// The server.
    pub program: Program,
    socket: PathBuf,
}

/// One connection to redis.
#[derive(Debug)]
pub struct RedisConnection {
    stream: BufReader<UnixStream>,
}

impl Redis {
    /// Starts it, with its files in `scratch`.
    pub fn start(scratch: &Scratch) -> Self {
        let directory = scratch.directory_of(&cast().target, "redis");
        let socket = directory.join("redis.sock");
        let mut command = cast().target.command(required("/usr/bin/redis-server", "redis-server"));
        command.args([
            "--port",
            "0",
            "--save",
            "",
            "--appendonly",
            "no",
            "--enable-debug-command",
            "yes",
            "--dir",
        ]);
        command.arg(&directory).arg("--unixsocket").arg(&socket);
        let redis = Self { program: Program::start(&mut command), socket };
        wait::until("redis answers", || UnixStream::connect(&redis.socket).is_ok());
        redis
    }

    /// A new connection.
    pub fn connect(&self) -> RedisConnection {
        let stream = UnixStream::connect(&self.socket).expect("cannot connect to redis");
        stream.set_read_timeout(Some(Duration::from_secs(60))).expect("a timeout can be set");
        RedisConnection { stream: BufReader::new(stream) }
    }
}

impl RedisConnection {
    /// Sends a command; gives the answer as one line of text.
    pub fn ask(&mut self, command: &str) -> String {
        self.stream.get_mut().write_all(format!("{command}\r\n").as_bytes()).expect("redis doesn't listen");
        let mut line = String::new();
        self.stream.read_line(&mut line).expect("redis doesn't answer");
        let line = line.trim_end().to_owned();
        match line.strip_prefix('$').and_then(|length| length.parse::<usize>().ok()) {
            Some(length) => {
                let mut body = vec![0; length + 2];
                self.stream.read_exact(&mut body).expect("redis doesn't answer");
                String::from_utf8_lossy(&body[..length]).into_owned()
            }
            None => line,
        }
    }
}

/// A postgres cluster of its own.
#[derive(Debug)]
pub struct Postgres {
    /// The postmaster.
    pub program: Program,
    directory: PathBuf,
}

/// psql, with one connection that stays open.
#[derive(Debug)]
pub struct Psql {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

const POSTGRES: &str = "/usr/lib/postgresql/15/bin";

impl Postgres {
    /// Makes a cluster in `scratch` and starts it.
    pub fn start(scratch: &Scratch) -> Self {
        let directory = scratch.directory_of(&cast().target, "postgres");
        let program = |name: &str| required(&format!("{POSTGRES}/{name}"), "postgresql").to_owned();
        let mut initdb = cast().target.command(program("initdb"));
        initdb
            .args(["--no-sync", "--auth=trust", "--username=postgres", "--pgdata"])
            .arg(directory.join("cluster"));
        let output = initdb.output().expect("cannot run initdb");
        assert!(output.status.success(), "initdb: {}", String::from_utf8_lossy(&output.stderr));
        let mut command = cast().target.command(program("postgres"));
        command.arg("-D").arg(directory.join("cluster")).arg("-k").arg(&directory);
        command.args(["-c", "listen_addresses=", "-c", "fsync=off", "-c", "shared_buffers=16MB"]);
        let log = std::fs::File::create(scratch.path().join("postgres.log")).expect("cannot make a log");
        let postgres = Self { program: Program::start(command.stderr(log)), directory };
        wait::until("postgres answers", || postgres.is_ready());
        postgres
    }

    /// A session of its own.
    pub fn connect(&self) -> Psql {
        let mut command = self.client("psql");
        command.args(["-X", "-A", "-t", "-q", "-d", "postgres"]).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().expect("cannot start psql");
        let input = child.stdin.take().expect("its input is a pipe");
        let output = BufReader::new(child.stdout.take().expect("its output is a pipe"));
        Psql { child, input, output }
    }

    fn is_ready(&self) -> bool {
        self.client("pg_isready").stdout(Stdio::null()).status().is_ok_and(|status| status.success())
    }

    fn client(&self, name: &str) -> Command {
        let mut command = cast().target.command(format!("{POSTGRES}/{name}"));
        command.args(["-U", "postgres", "-h"]).arg(&self.directory);
        command
    }
}

impl Psql {
    /// Runs statements; gives the rows that they print.
    pub fn ask(&mut self, statements: &str) -> Vec<String> {
        writeln!(self.input, "{statements}\n\\echo end-of-answer").expect("psql doesn't listen");
        let mut rows = Vec::new();
        loop {
            let mut line = String::new();
            assert!(self.output.read_line(&mut line).expect("psql says nothing") > 0, "psql is gone");
            match line.trim_end() {
                "end-of-answer" => return rows,
                row => rows.push(row.to_owned()),
            }
        }
    }
}

impl Drop for Psql {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// nginx with one worker process, on a UNIX socket.
#[derive(Debug)]
pub struct Nginx {
    /// Its master process.
    pub program: Program,
    socket: PathBuf,
}

/// What nginx serves.
pub const PAGE: &str = "served by a process that slept\n";

impl Nginx {
    /// Starts it, with its files in `scratch`.
    pub fn start(scratch: &Scratch) -> Self {
        let directory = scratch.directory_of(&cast().target, "nginx");
        let socket = directory.join("nginx.sock");
        let place = directory.display();
        let temporary = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
            .map(|name| format!("{name}_temp_path {place}/{name};"))
            .join(" ");
        let page = PAGE.trim_end();
        let configuration = format!(
            "daemon off; worker_processes 1; pid {place}/pid; error_log {place}/error.log;\n\
             events {{ worker_connections 64; }}\n\
             http {{ access_log off; {temporary} keepalive_timeout 300;\n\
             server {{ listen unix:{}; location / {{ return 200 \"{page}\\n\"; }} }} }}\n",
            socket.display()
        );
        let file = scratch.file("nginx.conf", &configuration);
        let mut command = cast().target.command(required("/usr/sbin/nginx", "nginx"));
        command.arg("-c").arg(file).args(["-e", "stderr"]);
        let nginx = Self { program: Program::start(&mut command), socket };
        wait::until("nginx answers", || UnixStream::connect(&nginx.socket).is_ok());
        nginx
    }

    /// Its worker process.
    pub fn worker(&self) -> i32 {
        wait::until_some("nginx has a worker", wait::BOUND, || {
            crate::procfs::children(self.program.pid()).first().copied()
        })
    }

    /// A connection to it.
    pub fn connect(&self) -> UnixStream {
        let stream = UnixStream::connect(&self.socket).expect("cannot connect to nginx");
        stream.set_read_timeout(Some(Duration::from_secs(60))).expect("a timeout can be set");
        stream
    }
}

/// Sends a request, without waiting for the answer.
pub fn send_request(stream: &mut UnixStream) {
    stream.write_all(b"GET / HTTP/1.1\r\nHost: test\r\n\r\n").expect("nginx doesn't listen");
}

/// Reads an answer; gives its body.
pub fn read_answer(stream: &mut UnixStream) -> String {
    let mut answer = Vec::new();
    let mut buffer = [0; 1024];
    while !answer.ends_with(PAGE.as_bytes()) {
        let length = stream.read(&mut buffer).expect("nginx doesn't answer");
        assert!(length > 0, "nginx closed the connection after: {}", String::from_utf8_lossy(&answer));
        answer.extend_from_slice(&buffer[..length]);
    }
    PAGE.to_owned()
}

/// node with timers, an open TCP server, and 64 MiB of known memory.
pub fn start_node() -> Target {
    let script = r#"
const net = require('net'), crypto = require('crypto');
const memory = Buffer.alloc(64 << 20);
for (let i = 0; i < memory.length; i += 4) memory.writeUInt32LE((i * 2654435761) >>> 0, i);
const objects = Array.from({ length: 200000 }, (_, i) => ({ i, text: 'object ' + i }));
const hash = () => {
    const h = crypto.createHash('sha256').update(memory);
    objects.forEach(o => h.update(o.text + o.i));
    return h.digest('hex');
};
const first = hash();
let ticks = 0;
setInterval(() => ticks++, 10);
const server = net.createServer(s => s.on('data', d => s.write('echo ' + d + 'ticks=' + ticks + '\n')));
server.listen(0, '127.0.0.1', () => console.log('ready port=' + server.address().port));
require('readline').createInterface({ input: process.stdin }).on('line', () => {
    const before = ticks;
    const same = hash() === first;
    setTimeout(() => console.log(same && ticks > before ? 'intact' : 'differs'), 100);
});
"#;
    let mut command = cast().target.command(required("/usr/bin/node", "nodejs"));
    command.args(["-e", script]);
    Target::start_command(command)
}

/// python3 with numpy arrays of 128 MiB.
pub fn start_python() -> Target {
    required("/usr/lib/python3/dist-packages/numpy", "python3-numpy");
    let script = r#"
import hashlib, sys, numpy
generator = numpy.random.default_rng(7)
arrays = [generator.random(1 << 20) for _ in range(8)] + [numpy.zeros(1 << 20), numpy.arange(7 << 20)]
product = generator.random((600, 600))
table = {i: str(i) * 3 for i in range(200000)}
def state():
    h = hashlib.sha256()
    for array in arrays: h.update(array)
    h.update((product @ product).tobytes())
    h.update(repr(sorted(table.items())[-1000:]).encode())
    return h.hexdigest()
first = state()
print('ready', flush=True)
for line in sys.stdin: print('intact' if state() == first else 'differs', flush=True)
"#;
    let mut command = cast().target.command(required("/usr/bin/python3", "python3"));
    command.args(["-c", script]);
    Target::start_command(command)
}
