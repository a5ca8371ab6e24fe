//! doc/deploy/non-root.md, word for word: its commands are run in a mount namespace of their own, where
//! accounts, programs and directories that they make are nobody else's.

use memcr_tests::binaries;
use memcr_tests::scratch::Scratch;
use std::path::Path;
use std::process::{Command, Stdio};

/// What is made by the commands, in place of the machine's. Programs in sbin are found as root finds them.
const NAMESPACE: &str = r#"
set -eu
export PATH=/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
# by relative paths: its own name is hidden below
cd "$1"
for directory in /etc /usr/local/bin /var/lib /run; do
    own="own$directory"
    mkdir -p "$own"
    if [ $directory = /etc ]; then cp -a /etc/. "$own"; fi
    mount --bind "$own" $directory
done
mknod -m 0600 userfaultfd c 10 "$(awk '$2 == "userfaultfd" { print $1 }' /proc/misc)"
mount --bind userfaultfd /dev/userfaultfd
"#;

/// What the page says of the result.
const PROOF: &str = r#"
daemon=$(pgrep --exact --uid memcr memcr)
launcher=$(pgrep --parent $daemon)
setpriv --reuid=appmanager --regid=appmanager --init-groups memcr-client -l /run/memcr/memcr.sock -p $app -c
worker=$(pgrep --parent $launcher)
for process in $daemon $launcher $worker; do
    grep --no-filename -E '^(CapPrm|CapEff|Seccomp|Uid)' /proc/$process/status | tr '\n\t' '  '
    echo
done
stat --format 'image %U %a' /var/lib/memcr/pages-$app.img
grep --count '"guard":"full"' /var/lib/memcr/audit.log
setpriv --reuid=appmanager --regid=appmanager --init-groups memcr-client -l /run/memcr/memcr.sock -p $app -r
useradd --system stranger
status=0
setpriv --reuid=stranger --regid=stranger --init-groups memcr-client -l /run/memcr/memcr.sock -p $app -c || status=$?
echo "stranger: $status"
kill $app $daemon
wait $daemon
id -u memcr
"#;

#[test]
fn the_page_about_non_root_set_ups_is_true_word_for_word() {
    let page = include_str!("../../doc/deploy/non-root.md");
    let blocks: Vec<&str> =
        page.split("```sh\n").skip(1).filter_map(|rest| Some(rest.split_once("```")?.0)).collect();
    assert_eq!(blocks.len(), 6, "the page has other commands than this test knows");
    let scratch = Scratch::new();
    programs(scratch.path());
    let script = [&[NAMESPACE], &blocks[..], &[PROOF]].concat().concat();
    let mut command = Command::new("unshare");
    command.args(["--mount", "--propagation", "private", "sh", "-c", &script, "sh"]).arg(scratch.path());
    let output = command.stdin(Stdio::null()).output().expect("cannot run unshare");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let (said, errors) = (text(&output.stdout), text(&output.stderr));
    assert!(output.status.success(), "{said}\n{errors}");
    let lines: Vec<&str> = said.lines().collect();
    let uid = lines.last().expect("it says the daemon's number").trim();
    let holds = |permitted: &str| {
        let ids = format!("Uid: {uid} {uid} {uid} {uid} ");
        let wanted = format!("{ids}CapPrm: {permitted} CapEff: 0000000000000000 Seccomp: 2 ");
        lines.iter().filter(|line| line.starts_with(&wanted)).count()
    };
    // the broker and the worker; the launcher
    assert_eq!((holds("0000000000000000"), holds("0000000000080000")), (2, 1), "{said}");
    assert!(said.contains("image memcr 600"), "{said}");
    assert!(said.matches("sleeps:").count() == 2 && said.matches("runs:").count() == 2, "{said}");
    assert!(said.contains("stranger: 4"), "{said}\n{errors}");
}

/// Where the page expects them after a build.
fn programs(directory: &Path) {
    let release = directory.join("target/release");
    std::fs::create_dir_all(&release).expect("cannot make a directory");
    for name in ["memcr", "memcr-worker", "memcr-client"] {
        std::fs::copy(binaries::path(name), release.join(name)).expect("cannot copy a program");
    }
}
