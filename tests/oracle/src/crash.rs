// SPDX-License-Identifier: GPL-2.0

//! A signal is what the CPU says when the model is wrong about what it can access.

use crate::{arena, model::PAGE};

/// Has SIGSEGV and SIGBUS say where they were before they end the program.
pub fn explain() {
    for signal in [libc::SIGSEGV, libc::SIGBUS] {
        let handler: extern "C" fn(i32, *mut libc::siginfo_t, *mut libc::c_void) = crashed;
        // SAFETY: All zeroes is no flags and an empty mask.
        let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
        action.sa_sigaction = handler as usize;
        action.sa_flags = libc::SA_SIGINFO;
        // SAFETY: The handler is one that takes three arguments, as the flag says.
        unsafe { libc::sigaction(signal, &action, std::ptr::null_mut()) };
    }
}

extern "C" fn crashed(_signal: i32, info: *mut libc::siginfo_t, _context: *mut libc::c_void) {
    // SAFETY: The kernel hands over one that is valid, of a signal that has an address.
    let address = unsafe { (*info).si_addr() } as usize;
    let (thread, offset) = arena::place(address);
    // It can hardly be made worse: whoever has the lock of the output is in no need of it.
    println!(
        "# Cpu: the CPU cannot access {address:#x}, page {} of thread {thread}, which the model says it can",
        offset / PAGE
    );
    // SAFETY: It ends here.
    unsafe { libc::_exit(1) }
}
