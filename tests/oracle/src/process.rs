// SPDX-License-Identifier: GPL-2.0

//! Another process that has a mirror of its own.

use crate::mirror::Mirror;
use std::{
    fs, io,
    os::fd::{AsRawFd, FromRawFd, OwnedFd},
    time::{Duration, Instant},
};

pub struct Process {
    pub pid: i32,
    handle: OwnedFd,
}

/// How long it may take a process to stop: what takes longer hangs, says whoever runs the tests.
fn patience() -> Duration {
    let limit = std::env::var("ODP_LIMIT").ok();
    Duration::from_secs(
        limit
            .and_then(|seconds| seconds.parse().ok())
            .unwrap_or(300),
    )
}

/// What the thread that has the device touch the memory is called (samples/preload).
const TOUCHING: &str = "odp-preload";

impl Process {
    pub fn open(pid: i32) -> io::Result<Self> {
        // SAFETY: It takes two integers.
        let handle = descriptor(unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) })?;
        Ok(Self { pid, handle })
    }

    /// Those that have a file of the device's open, and a thread that uses it. A child may have
    /// only the file, which is its parent's.
    pub fn mirrored() -> io::Result<Vec<Self>> {
        let this = std::process::id() as i32;
        let pids = fs::read_dir("/proc")?
            .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<i32>().ok());
        Ok(pids
            .filter(|pid| *pid != this && touches(*pid) && !device_files(*pid).is_empty())
            .filter_map(|pid| Self::open(pid).ok())
            .collect())
    }

    /// Its mirror, as a file of ours. There is none if it has gone meanwhile.
    pub fn mirror(&self) -> io::Result<Mirror> {
        let number = device_files(self.pid).pop();
        let number = number.ok_or(io::ErrorKind::NotFound)?;
        let handle = self.handle.as_raw_fd();
        // SAFETY: It takes three integers.
        let file = unsafe { libc::syscall(libc::SYS_pidfd_getfd, handle, number, 0) };
        Ok(Mirror::from_fd(descriptor(file)?))
    }

    /// Stops it, if it can be stopped; it goes on when what is returned is dropped.
    pub fn stop(&self) -> io::Result<Stopped<'_>> {
        self.signal(libc::SIGSTOP)?;
        let stopped = Stopped(self);
        let deadline = Instant::now() + patience();
        while !self.is_stopped()? && Instant::now() < deadline {
            std::thread::yield_now();
        }
        Ok(stopped)
    }

    fn is_stopped(&self) -> io::Result<bool> {
        for task in fs::read_dir(format!("/proc/{}/task", self.pid))? {
            let stat = fs::read_to_string(task?.path().join("stat"))?;
            // The name before it may have anything in it.
            let state = stat
                .rsplit(')')
                .next()
                .and_then(|rest| rest.trim().chars().next());
            // What waits in the kernel, as for a child of vfork(), or for a thread that handles its
            // page fault, goes no further than to its end.
            if !matches!(state, Some('T' | 't' | 'D' | 'Z' | 'X')) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn signal(&self, signal: i32) -> io::Result<()> {
        let (handle, none) = (self.handle.as_raw_fd(), std::ptr::null::<u8>());
        // SAFETY: Without a siginfo, it takes integers.
        let sent = unsafe { libc::syscall(libc::SYS_pidfd_send_signal, handle, signal, none, 0) };
        if sent < 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(())
    }

    /// Waits for its end; false if there is none within `time`.
    pub fn ends_within(&self, time: Duration) -> bool {
        let mut poll = libc::pollfd {
            fd: self.handle.as_raw_fd(),
            events: libc::POLLIN,
            revents: 0,
        };
        // SAFETY: It is one element.
        unsafe { libc::poll(&mut poll, 1, time.as_millis() as i32) > 0 }
    }
}

pub struct Stopped<'a>(&'a Process);

impl Drop for Stopped<'_> {
    fn drop(&mut self) {
        // If it has been killed meanwhile, there is nothing to be continued.
        let _ = self.0.signal(libc::SIGCONT);
    }
}

fn touches(pid: i32) -> bool {
    let Ok(tasks) = fs::read_dir(format!("/proc/{pid}/task")) else {
        return false;
    };
    tasks.flatten().any(|task| {
        let name = fs::read_to_string(task.path().join("comm"));
        name.is_ok_and(|name| name.trim_end() == TOUCHING)
    })
}

/// The numbers of the files of the device's that a process has open.
fn device_files(pid: i32) -> Vec<i32> {
    let Ok(files) = fs::read_dir(format!("/proc/{pid}/fd")) else {
        return Vec::new();
    };
    files
        .filter_map(|file| {
            let file = file.ok()?;
            let is_it = fs::read_link(file.path()).ok()?.to_str()? == "/dev/odp_mirror";
            is_it.then(|| file.file_name().to_str()?.parse().ok())?
        })
        .collect()
}

fn descriptor(number: i64) -> io::Result<OwnedFd> {
    if number < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: It is new, so it is ours.
    Ok(unsafe { OwnedFd::from_raw_fd(number as i32) })
}
