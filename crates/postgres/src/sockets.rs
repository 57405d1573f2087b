//! The sockets that sqlx has open. It hands out none, so each is reached through a second handle, which the kernel gives.
//! Where it does not, as under some sandboxes, there are none.

use std::net::TcpStream;

/// A second handle to each open socket of this process, as if each were TCP.
#[cfg(target_os = "linux")]
pub(crate) fn open() -> Vec<TcpStream> {
    use std::os::fd::RawFd;

    use rustix::process::{PidfdFlags, PidfdGetfdFlags, getpid, pidfd_getfd, pidfd_open};

    let Ok(this) = pidfd_open(getpid(), PidfdFlags::empty()) else { return Vec::new() };
    let Ok(open) = std::fs::read_dir("/proc/self/fd") else { return Vec::new() };
    let is_socket = |target: std::path::PathBuf| target.to_string_lossy().starts_with("socket:");
    open.flatten()
        .filter(|entry| std::fs::read_link(entry.path()).is_ok_and(is_socket))
        .filter_map(|entry| entry.file_name().to_string_lossy().parse::<RawFd>().ok())
        .filter_map(|number| pidfd_getfd(&this, number, PidfdGetfdFlags::empty()).ok())
        .map(TcpStream::from)
        .collect()
}

/// Whoever waits for this socket sleeps until so many bytes are there to be read.
#[cfg(target_os = "linux")]
pub(crate) fn wake_at(socket: &impl std::os::fd::AsFd, bytes: usize) {
    use nix::sys::socket::SetSockOpt;
    use nix::{libc, setsockopt_impl, sockopt_impl};

    sockopt_impl!(LowWater, SetOnly, libc::SOL_SOCKET, libc::SO_RCVLOWAT, usize);
    // Without it there is more waking, and nothing else.
    let _ = LowWater.set(socket, &bytes);
}

#[cfg(not(target_os = "linux"))]
pub(crate) fn open() -> Vec<TcpStream> {
    Vec::new()
}

#[cfg(not(target_os = "linux"))]
pub(crate) fn wake_at(_socket: &impl std::os::fd::AsFd, _bytes: usize) {}
