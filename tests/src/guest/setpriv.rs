//! As much of setpriv(1) as the tests need, for a guest that has no other program.

use nix::unistd::{Gid, Uid, setgroups, setresgid, setresuid};
use std::os::unix::process::CommandExt;
use std::process::Command;

/// `setpriv --reuid=N --regid=N [--init-groups] -- PROGRAM ...`, with the groups of /etc/group.
pub fn setpriv() -> ! {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let number = |name: &str| {
        let word =
            words.iter().find_map(|word| word.strip_prefix(name)).expect("setpriv: a number is missing");
        word.parse::<u32>().expect("setpriv: not a number")
    };
    let (user, group) = (number("--reuid="), number("--regid="));
    let (uid, gid) = (Uid::from_raw(user), Gid::from_raw(group));
    let groups: Vec<Gid> = groups_of(user).into_iter().chain([group]).map(Gid::from_raw).collect();
    setgroups(&groups).expect("setpriv: setgroups");
    setresgid(gid, gid, gid).expect("setpriv: setresgid");
    setresuid(uid, uid, uid).expect("setpriv: setresuid");
    let mut command = words.iter().skip_while(|word| *word != "--").skip(1);
    let program = command.next().expect("setpriv: a program is missing");
    let error = Command::new(program).args(command).exec();
    eprintln!("setpriv: {program}: {error}");
    std::process::exit(127)
}

/// Numbers of the groups that name this user as a member.
fn groups_of(user: u32) -> Vec<u32> {
    let (users, groups) =
        ["/etc/passwd", "/etc/group"].map(|path| std::fs::read_to_string(path).unwrap_or_default()).into();
    let field = |line: &str, index: usize| line.split(':').nth(index).unwrap_or_default().to_owned();
    let name = users.lines().find(|line| field(line, 2) == user.to_string()).map(|line| field(line, 0));
    let is_member = |line: &&str| {
        name.as_ref().is_some_and(|name| field(line, 3).split(',').any(|member| member == name))
    };
    groups.lines().filter(is_member).filter_map(|line| field(line, 2).parse().ok()).collect()
}
