//! The blob: linked by the worker's build script, never run as a program.

#![no_std]
#![no_main]

// pulls in the entry point
use memcr_parasite as _;

/// Never reached: the parasite is written without panics, and the build checks that none is left.
#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    loop {
        core::hint::spin_loop();
    }
}
