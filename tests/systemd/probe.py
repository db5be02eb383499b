"""Tries what a service that was broken into would try. Prints each door that is open, and ends with 1 if any is.

It runs with the very settings of natshook.service, and once without them: then doors have to be open.
"""

import ctypes
import mmap
import os
import pathlib
import socket

libc = ctypes.CDLL(None, use_errno=True)
CLONE_NEWUSER, CLONE_NEWNET, PTRACE_TRACEME, KEYCTL = 0x10000000, 0x40000000, 0, 250


def call(function, *arguments):
    if function(*arguments) < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


def write(path):
    pathlib.Path(path).write_text("x")


def set_user_id_bit():
    file = pathlib.Path("/tmp/probe-suid")
    file.write_text("x")
    file.chmod(0o4755)


def be_root():
    if os.getuid() != 0:
        raise PermissionError


def see_others():
    if sum(entry.isdigit() for entry in os.listdir("/proc")) <= 1:
        raise PermissionError


def see_devices():
    if not {"kmsg", "mem", "vda", "sda", "rtc0"} & set(os.listdir("/dev")):
        raise PermissionError


def credential_of_its_own():
    """The one door that has to be open."""
    folder = os.environ.get("CREDENTIALS_DIRECTORY")
    if folder:
        assert pathlib.Path(folder, "admin-token").read_text().strip(), "its own credential is empty"


DOORS = {
    "is root": be_root,
    "writes to /usr": lambda: write("/usr/probe"),
    "writes to /etc": lambda: write("/etc/natshook/probe"),
    "writes to /var": lambda: write("/var/lib/probe"),
    "writes to /run": lambda: write("/run/probe"),
    "looks into homes": lambda: os.listdir("/root")[0],
    "reads the secrets' files": lambda: pathlib.Path("/etc/natshook/secrets/admin-token").read_text(),
    "sees other processes": see_others,
    "sees devices": see_devices,
    "reads the kernel's log": lambda: open("/dev/kmsg").close(),
    "reads the kernel's settings": lambda: os.listdir("/proc/sys/kernel")[0],
    "opens a Unix socket": lambda: socket.socket(socket.AF_UNIX).close(),
    "opens a netlink socket": lambda: socket.socket(socket.AF_NETLINK, socket.SOCK_RAW).close(),
    "opens a raw socket": lambda: socket.socket(socket.AF_INET, socket.SOCK_RAW, 1).close(),
    "opens a packet socket": lambda: socket.socket(socket.AF_PACKET, socket.SOCK_RAW).close(),
    "has memory to write and run": lambda: mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC),
    "makes a user namespace": lambda: call(libc.unshare, CLONE_NEWUSER),
    "makes a network namespace": lambda: call(libc.unshare, CLONE_NEWNET),
    "mounts": lambda: call(libc.mount, b"none", b"/tmp", b"tmpfs", 0, None),
    "traces": lambda: call(libc.ptrace, PTRACE_TRACEME, 0, None, None),
    "uses keyrings": lambda: call(libc.syscall, KEYCTL, 0, -3, 1),
    "changes the host's name": lambda: call(libc.sethostname, b"probe", 5),
    "sets a user id bit": set_user_id_bit,
    "changes its priority": lambda: os.nice(-5),
}


def main():
    open_doors = []
    for name, attempt in DOORS.items():
        try:
            attempt()
            open_doors.append(name)
        except (OSError, IndexError):
            pass
    credential_of_its_own()
    print(f"{len(open_doors)} of {len(DOORS)} doors open:", ", ".join(open_doors) or "none", flush=True)
    return 1 if open_doors else 0


raise SystemExit(main())
