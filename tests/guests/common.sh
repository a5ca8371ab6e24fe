# Sourced by the scripts beside it.
set -euo pipefail
guests=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
workspace=$(cd "$guests/../.." && pwd)
# what is fetched and may be kept: kernels, the sources of the standard library
cache=${MEMCR_GUESTS_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/memcr-guests}
# what is built
built=$workspace/target/guests
mkdir -p "$cache" "$built"

say() { printf '%s\n' "$*" >&2; }

# Fields of a guest: name, architecture, suite, package, processor, words for the kernel.
guest() { awk -v name="$1" '$1 == name' "$guests/matrix"; }
all_guests() { awk '!/^#/ && NF { print $1 }' "$guests/matrix"; }

# For each architecture of Debian: the target of Rust, the prefix of the C tools, the compiler, the emulator.
tool_table="\
amd64   x86_64-unknown-linux-gnu      x86_64-linux-gnu    gcc                     qemu-system-x86_64
arm64   aarch64-unknown-linux-gnu     aarch64-linux-gnu   aarch64-linux-gnu-gcc   qemu-system-aarch64
armhf   armv7-unknown-linux-gnueabihf arm-linux-gnueabihf arm-linux-gnueabihf-gcc qemu-system-arm
riscv64 riscv64gc-unknown-linux-gnu   riscv64-linux-gnu   riscv64-linux-gnu-gcc   qemu-system-riscv64"
of_architecture() { awk -v name="$1" -v field="$2" '$1 == name { print $field }' <<< "$tool_table"; }
target_of() { of_architecture "$1" 2; }
tools_of() { of_architecture "$1" 3; }
compiler_of() { of_architecture "$1" 4; }
emulator_of() { of_architecture "$1" 5; }
architecture_of() { guest "$1" | awk '{ print $2 }'; }
# Whether no toolchain here has the standard library for an architecture, so that it has to be built.
needs_library() { [ ! -d "$(rustc --print sysroot)/lib/rustlib/$(target_of "$1")/lib" ]; }

# What cargo is told of one target: its compiler, and whether all that is called is in the program (+), or not (-).
prepare() {
  local target tools variable upper
  target=$(target_of "$1") tools=$(tools_of "$1")
  variable=${target//-/_}
  upper=${variable^^}
  export "CARGO_TARGET_${upper}_RUSTFLAGS=-C target-feature=$2crt-static -A linker-messages"
  [ "$1" = amd64 ] ||
    export "CARGO_TARGET_${upper}_LINKER=$tools-gcc" "CC_$variable=$tools-gcc" "AR_$variable=$tools-ar"
}
# for_each_toolchain COMMAND ARCHITECTURE...: calls `COMMAND TOOLCHAIN ARCHITECTURE...` for those of which the standard library is
# there, and for those of which nightly builds it.
for_each_toolchain() {
  local command=$1 ours=() others=() architecture
  shift
  for architecture in "$@"; do
    if needs_library "$architecture"; then others+=("$architecture"); else ours+=("$architecture"); fi
  done
  [ "${#ours[@]}" -eq 0 ] || "$command" default "${ours[@]}"
  [ "${#others[@]}" -gt 0 ] || return 0
  # a variable of cargo's own tests: sources that are not in the toolchain
  __CARGO_TESTS_ONLY_SRC_ROOT=$("$guests/library")
  export __CARGO_TESTS_ONLY_SRC_ROOT CARGO_UNSTABLE_BUILD_STD=std,panic_unwind CARGO_UNSTABLE_BUILD_STD_FEATURES=panic-unwind
  "$command" nightly "${others[@]}"
}

# apt for a suite and an architecture of its own lists: the machine's apt is not touched.
mirror() {
  local found
  found=$(awk '/^URIs:/ { print $2; exit }' /etc/apt/sources.list.d/debian.sources 2>/dev/null || true)
  [ -n "$found" ] || found=$(awk '$1 == "deb" { for (i = 2; i <= NF; i++) if ($i ~ /:\/\//) { print $i; exit } }' /etc/apt/sources.list)
  printf '%s\n' "$found"
}
suite_apt() {
  local suite=$1 architecture=$2 place=$cache/apt/$1-$2
  shift 2
  mkdir -p "$place/lists/partial" "$place/archives/partial"
  : > "$place/status"
  printf 'deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] %s %s main\n' "$(mirror)" "$suite" > "$place/sources.list"
  apt-get -qq -o Dir::Etc::SourceList="$place/sources.list" -o Dir::Etc::SourceParts=/dev/null \
    -o Dir::State::Lists="$place/lists" -o Dir::State::Status="$place/status" -o Dir::Cache::Archives="$place/archives" \
    -o Dir::Cache::PkgCache= -o Dir::Cache::SrcPkgCache= -o APT::Architecture="$architecture" \
    -o APT::Architectures="$architecture" -o APT::Sandbox::User=root -o Acquire::Languages=none -o Acquire::Retries=3 "$@"
}
# A field of a package in the verified index.
package_field() {
  /usr/lib/apt/apt-helper cat-file "$cache/apt/$1-$2"/lists/*_Packages* |
    awk -v package="$3" -v field="$4:" '$1 == "Package:" { here = $2 == package } here && $1 == field && !told { sub(/^[^ ]+ /, ""); print; told = 1 }'
}
