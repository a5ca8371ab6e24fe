//! A machine without the full guard, for a while: no /dev/userfaultfd, and userfaultfd not for all.

use std::path::Path;

const DEVICE: &str = "/dev/userfaultfd";
const AWAY: &str = "/dev/userfaultfd.away";
const SETTING: &str = "/proc/sys/vm/unprivileged_userfaultfd";

/// As long as it lives there is no full guard for daemons that start.
pub(super) struct WithoutDevice {
    setting: Option<String>,
}

impl WithoutDevice {
    pub(super) fn begin() -> Self {
        if Path::new(DEVICE).exists() {
            std::fs::rename(DEVICE, AWAY).expect("cannot rename the device");
        }
        let setting = std::fs::read_to_string(SETTING).ok();
        if setting.is_some() {
            std::fs::write(SETTING, "0").expect("cannot change the setting");
        }
        Self { setting }
    }
}

impl Drop for WithoutDevice {
    fn drop(&mut self) {
        if Path::new(AWAY).exists() {
            std::fs::rename(AWAY, DEVICE).expect("cannot rename the device");
        }
        if let Some(setting) = &self.setting {
            std::fs::write(SETTING, setting).expect("cannot change the setting");
        }
    }
}
