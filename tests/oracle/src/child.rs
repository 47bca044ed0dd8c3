// SPDX-License-Identifier: GPL-2.0

//! A child that has a copy of the memory, and of the model at that time.

use crate::{
    arena::Arena,
    device::Device,
    mismatch::{Kind, Mismatch},
    model::{Model, WORDS},
    op::ForkPlan,
    player::{call, Result},
};
use std::{
    fs::File,
    io::{self, Read, Write},
    os::fd::FromRawFd,
};

pub struct Child {
    pid: i32,
    /// A byte from here lets it go on, the end makes it end.
    go: File,
}

/// What a child's status says.
const WRONG: [(i32, &str); 5] = [
    (1, "what nobody had changed was not as at the fork"),
    (2, "a store by the parent's CPU reached the child"),
    (3, "a store by the parent's device reached the child"),
    (4, "the child did not see its own store"),
    (
        5,
        "the parent's device did not show the child what the parent stored",
    ),
];

impl Child {
    pub fn start(
        plan: &ForkPlan,
        arena: &Arena,
        model: &Model,
        device: &dyn Device,
        (by_device, by_child): (u64, u64),
    ) -> io::Result<Self> {
        let mut ends = [0i32; 2];
        // SAFETY: It writes two numbers.
        if unsafe { libc::pipe2(ends.as_mut_ptr(), libc::O_CLOEXEC) } < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: The descriptors are new, so they are ours.
        let [wait, go] = ends.map(|end| unsafe { File::from_raw_fd(end) });
        // SAFETY: The child allocates nothing and takes no lock before it ends.
        let pid = unsafe { libc::fork() };
        match pid {
            -1 => Err(io::Error::last_os_error()),
            0 => {
                // SAFETY: The child's copy is not used again.
                unsafe { libc::close(ends[1]) };
                let mut byte = [0];
                let status = match (&wait).read(&mut byte) {
                    Ok(1) => live(plan, arena, model, device, by_device, by_child),
                    _ => 0,
                };
                // SAFETY: It ends here.
                unsafe { libc::_exit(status) }
            }
            pid => Ok(Self { pid, go }),
        }
    }

    /// Lets the child look, and says what it saw.
    pub fn finish(mut self) -> Result {
        call("write to the child", self.go.write_all(&[1]))?;
        let status = call("waitpid", self.wait())?;
        if status == 0 {
            return Ok(());
        }
        let exit = libc::WIFEXITED(status).then(|| libc::WEXITSTATUS(status));
        let wrong = WRONG.iter().find(|(status, _)| exit == Some(*status));
        let what = wrong.map_or_else(
            || format!("the child ended with status {status:#x}"),
            |(_, what)| what.to_string(),
        );
        Err(Mismatch::new(Kind::Child, None, what))
    }

    fn wait(&mut self) -> io::Result<i32> {
        let (pid, mut status) = (self.pid, 0);
        self.pid = 0;
        // SAFETY: It writes a number.
        if unsafe { libc::waitpid(pid, &mut status, 0) } != pid {
            return Err(io::Error::last_os_error());
        }
        Ok(status)
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        if self.pid != 0 {
            // Whoever forked meanwhile has a copy of the pipe's end, so it may wait for a byte.
            let _ = self.go.write_all(&[1]);
            let _ = self.wait();
        }
    }
}

/// What the child does. It may not allocate, for another thread may have had the allocator's lock.
///
/// The values are what the parent's device has stored, and what the child is to store.
fn live(
    plan: &ForkPlan,
    arena: &Arena,
    model: &Model,
    device: &dyn Device,
    by_device: u64,
    by_child: u64,
) -> i32 {
    let same = |page: usize, word: usize| {
        !model.can_load(page) || arena.load(page, word) == model.page(page).words[word]
    };
    if !same(plan.by_parent.0, plan.by_parent.1) {
        return 2;
    }
    if !same(plan.by_device.0, plan.by_device.1) {
        return 3;
    }
    for page in plan.compared.clone() {
        if !(0..WORDS).all(|word| same(page, word)) {
            return 1;
        }
    }
    let (page, word) = plan.by_child;
    if model.can_store(page) {
        arena.store(page, word, by_child);
        if arena.load(page, word) != by_child {
            return 4;
        }
    }
    let (page, word) = plan.by_device;
    if model.can_store(page) {
        match device.seen_by_child(arena.address(page, word)) {
            Some(Ok(seen)) if seen != by_device => return 5,
            Some(Err(_)) => return 5,
            _ => {}
        }
    }
    0
}
