//! What a command line of the original asks for and doesn't get here, or not in that way: said at the start,
//! never silently left out.

use super::{Arguments, Listen};
use std::env;

impl Arguments {
    /// A sentence for each.
    #[must_use]
    pub fn remarks(&self) -> Vec<String> {
        let mut remarks = Vec::new();
        if let Some(choice) = self.encrypt.as_ref().filter(|choice| choice.name.ends_with("-cbc")) {
            remarks.push(format!(
                "-e {}: that cipher does not authenticate; {} is used instead, which does",
                choice.name,
                choice.cipher.name()
            ));
        }
        if self.no_encrypt {
            remarks.push("--no-encrypt: whoever can read an image reads the memory in it".into());
        }
        if self.listen_address.is_some_and(|address| !address.to_canonical().is_loopback()) {
            remarks.push(
                "--listen-address: whoever reaches it from elsewhere is an anonymous client, and nothing on the way \
                 is encrypted"
                    .into(),
            );
        }
        if self.parasite_socket_gid.is_some() && self.parasite_socket_dir.is_none() {
            remarks.push("-G has no effect without -S: there is no socket to give to a group".into());
        }
        if self.no_wait && self.listen.is_some() {
            remarks.push("-n has no effect with -l: a daemon waits for requests, not for Enter".into());
        }
        if self.listen_gid.is_some() && !matches!(self.listen, Some(Listen::Path(_))) {
            remarks.push("-g has no effect without -l PATH: there is no socket to give to a group".into());
        }
        if env::var_os("LD_PRELOAD").is_some_and(|value| !value.is_empty()) {
            remarks.push(
                "LD_PRELOAD is set: memcr encrypts by itself, and its worker is started without it".into(),
            );
        }
        remarks
    }
}

#[cfg(test)]
mod tests {
    use super::super::parse_from;

    #[test]
    fn what_has_no_effect_is_said() {
        for (line, word) in [
            ("memcr -l x -e aes-192-cbc", "aes-256-gcm is used instead"),
            ("memcr -l x --no-encrypt", "whoever can read"),
            ("memcr -l x -G 7", "without -S"),
            ("memcr -l x -n", "waits for requests"),
            ("memcr -p 5 -g 7", "-g has no effect"),
            ("memcr -l 9000 -g 7", "-g has no effect"),
            ("memcr -l 9000 --listen-address 0.0.0.0", "an anonymous client"),
        ] {
            let remarks = parse_from(line.split(' ').map(Into::into)).unwrap().remarks();
            assert!(remarks.iter().any(|remark| remark.contains(word)), "{line}: {remarks:?}");
        }
    }
}
