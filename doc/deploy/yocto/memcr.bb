SUMMARY = "Takes the memory of a running process away for a while and gives it back"
DESCRIPTION = "memcr freezes a process, writes its private memory to an encrypted image, frees the pages, and later puts every byte back. An unprivileged broker decides who may ask, a confined worker with CAP_SYS_PTRACE does the work."
LICENSE = "Apache-2.0 | MIT"
LIC_FILES_CHKSUM = " \
    file://LICENSE-APACHE;md5=3b83ef96387f14655fc854ddc3c6bd57 \
    file://LICENSE-MIT;md5=db56f73a7768ed656f5025305ece9824 \
"

# Where the sources are is for the layer to say: for example, in a .bbappend or local.conf,
#   MEMCR_SRC_URI = "git://git.example.org/memcr.git;protocol=https;branch=main"
#   SRCREV:pn-memcr = "..."
MEMCR_SRC_URI ?= ""
SRC_URI = "${MEMCR_SRC_URI}"
S = "${WORKDIR}/git"
PV = "0.1.0"

python () {
    if not d.getVar("MEMCR_SRC_URI"):
        raise bb.parse.SkipRecipe("set MEMCR_SRC_URI to where the sources of memcr are, and SRCREV")
}

inherit cargo cargo-update-recipe-crates systemd useradd

# every crate of Cargo.lock with its checksum; update-crates makes the list
require memcr-crates.inc

# ring and zstd have parts in C; no other program of the workspace goes to a device
CARGO_BUILD_FLAGS += "-p memcr-broker -p memcr-worker -p memcr-client"

USERADD_PACKAGES = "${PN}"
GROUPADD_PARAM:${PN} = "--system memcr-clients"
USERADD_PARAM:${PN} = "--system --user-group --no-create-home --shell /sbin/nologin memcr"

SYSTEMD_SERVICE:${PN} = "memcr.socket memcr.service"
SYSTEMD_AUTO_ENABLE = "disable"

do_install:append() {
    # the class puts libraries where only rustc looks for them
    install -D -m 0755 ${B}/target/${CARGO_TARGET_SUBDIR}/libmemcrclient.so ${D}${libdir}/libmemcrclient.so
    rm -rf ${D}${rustlibdir}
    install -D -m 0644 ${S}/client/include/memcrclient.h ${D}${includedir}/memcrclient.h
    install -D -m 0644 ${S}/doc/deploy/systemd/memcr.service ${D}${systemd_system_unitdir}/memcr.service
    install -D -m 0644 ${S}/doc/deploy/systemd/memcr.socket ${D}${systemd_system_unitdir}/memcr.socket
    install -D -m 0644 ${S}/doc/deploy/systemd/memcr.tmpfiles ${D}${nonarch_libdir}/tmpfiles.d/memcr.conf
    install -D -m 0644 ${S}/doc/deploy/systemd/policy.toml ${D}${sysconfdir}/memcr/policy.toml
}

FILES:${PN} += "${systemd_system_unitdir} ${nonarch_libdir}/tmpfiles.d ${libdir}/libmemcrclient.so"
# the library has no version in its name
FILES_SOLIBSDEV = ""
INSANE_SKIP:${PN} += "dev-so"
