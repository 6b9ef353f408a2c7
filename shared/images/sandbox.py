"""Restrictions that a decoder worker imposes on itself before it reads the first image.

A hostile file may take over a decoder. The worker then still cannot open a network connection, read files other than
the libraries it runs on, write files, start programs, or signal other processes: Landlock restricts access to files
(landlock(7)), a seccomp filter restricts system calls (seccomp(2)), and both are permanent. Images arrive as open
descriptors.
"""

import ctypes
import os
import platform
import resource
import struct
import sys
import sysconfig
from collections.abc import Iterable, Iterator
from importlib import import_module
from pathlib import Path

_OPEN_FILES = 64
_LIBC = ctypes.CDLL(None, use_errno=True)

_PR_SET_NO_NEW_PRIVS, _PR_SET_SECCOMP, _SECCOMP_MODE_FILTER = 38, 22, 2

_LANDLOCK_CREATE_RULESET, _LANDLOCK_ADD_RULE, _LANDLOCK_RESTRICT_SELF = 444, 445, 446
_LANDLOCK_CREATE_RULESET_VERSION, _LANDLOCK_RULE_PATH_BENEATH = 1, 1
_READ_FILE, _READ_DIR = 1 << 2, 1 << 3
# Number of rights to files that Landlock knows, by the version of its interface.
_FILE_RIGHTS = {1: 13, 2: 14, 3: 15, 4: 15, 5: 16}
_CONNECT_OR_BIND_TCP, _SIGNALS_OR_ABSTRACT_SOCKETS = 3, 3

# Directories that contain shared libraries and nothing private.
_LIBRARY_DIRECTORIES = ("/lib", "/lib64", "/usr/lib", "/usr/lib64", "/usr/local/lib", "/nix/store")

# AUDIT_ARCH_*, the system calls that are allowed, and the numbers of clone, openat and tgkill, whose arguments are
# checked. In the order of the names: memory, signals and time, files that are open, names of files, the process.
_SYSTEM_CALLS = {
    # brk mmap munmap mremap mprotect madvise; rt_sigaction rt_sigprocmask rt_sigreturn sigaltstack setitimer nanosleep
    # clock_nanosleep clock_gettime clock_getres gettimeofday time restart_syscall; read readv pread64 write writev
    # lseek fstat statx close dup fcntl getdents64 poll ppoll recvmsg recvfrom sendmsg sendto; stat lstat newfstatat
    # access faccessat readlink readlinkat getcwd; getpid gettid getuid geteuid getgid getegid uname sysinfo getrusage
    # sched_yield sched_getaffinity getcpu futex set_robust_list rseq membarrier getrandom exit exit_group
    "x86_64": (
        0xC000003E,
        (
            *(12, 9, 11, 25, 10, 28, 13, 14, 15, 131, 38, 35, 230, 228, 229, 96, 201, 219, 0, 19, 17, 1, 20, 8, 5, 332),
            *(3, 32, 72, 217, 7, 271, 47, 45, 46, 44, 4, 6, 262, 21, 269, 89, 267, 79, 39, 186, 102, 107, 104, 108),
            *(63, 99, 98, 24, 204, 309, 202, 273, 334, 324, 318, 60, 231),
        ),
        (56, 257, 234),
    ),
    # The same, where this architecture has them.
    "aarch64": (
        0xC00000B7,
        (
            *(214, 222, 215, 216, 226, 233, 134, 135, 139, 132, 103, 101, 115, 113, 114, 169, 128, 63, 65, 67, 64, 66),
            *(62, 80, 291, 57, 23, 25, 61, 73, 212, 207, 211, 206, 79, 48, 78, 17, 172, 178, 174, 175, 176, 177),
            *(160, 179, 165, 124, 123, 168, 98, 99, 293, 283, 278, 93, 94),
        ),
        (220, 56, 131),
    ),
}
_CLONE_THREAD = 0x10000
_OPENS_FOR_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC

# Instructions of the classic Berkeley Packet Filter: load a word of struct seccomp_data, jump, return.
_LOAD, _JUMP_IF_EQUAL, _JUMP_IF_ANY_BIT, _RETURN = 0x20, 0x15, 0x45, 0x06
_NUMBER, _ARCHITECTURE, _ARGUMENTS = 0, 4, 16  # offsets in struct seccomp_data
_ALLOW = 0x7FFF0000
_REFUSE = 0x00050000 | 38  # with ENOSYS, on which the C library tries an older system call


def enter(tasks: Iterable[str]) -> list[str]:
    """Restrict this process for good to what *tasks* need, and return a sentence about each missing restriction.

    Libraries can still be imported from the packages of *tasks* and the directories of Python's libraries.
    """
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    resource.setrlimit(resource.RLIMIT_NOFILE, (_OPEN_FILES, _OPEN_FILES))
    if sys.platform != "linux":
        resource.setrlimit(resource.RLIMIT_NPROC, (0, 0))
        return [f"decoders are not sandboxed: {platform.system()} has neither Landlock nor seccomp"]
    gaps = []
    if _LIBC.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0):
        gaps.append(f"decoders may gain privileges: {_error()}")
    if not _restrict_files(_library_directories(tasks)):
        gaps.append(f"decoders may read every file that the user may read: Landlock is unavailable ({_error()})")
    if not _filter_system_calls():
        resource.setrlimit(resource.RLIMIT_NPROC, (0, 0))
        gaps.append(f"decoders may use the network: seccomp is unavailable ({_error()})")
    return gaps


def _error() -> str:
    return os.strerror(ctypes.get_errno())


def _library_directories(tasks: Iterable[str]) -> set[str]:
    """Return the directories from which libraries are imported, without the project's own, which may hold secrets."""
    packages = {import_module(task.partition(".")[0]).__file__ for task in tasks}
    return {
        *(str(Path(file).parent) for file in packages if file),
        *(path for path in sys.path if path.endswith("-packages")),
        *(sysconfig.get_path(name) for name in ("stdlib", "platstdlib")),
        *_LIBRARY_DIRECTORIES,
    }


def _restrict_files(readable: Iterable[str]) -> bool:
    """Deny access to all files but those below *readable*, and where the kernel can, TCP and signals to others."""
    version = _LIBC.syscall(_LANDLOCK_CREATE_RULESET, None, 0, _LANDLOCK_CREATE_RULESET_VERSION)
    if version < 1:
        return False
    rights = (1 << _FILE_RIGHTS.get(version, 16)) - 1
    network = _CONNECT_OR_BIND_TCP if version >= 4 else 0
    scopes = _SIGNALS_OR_ABSTRACT_SOCKETS if version >= 6 else 0
    attributes = struct.pack("=QQQ", rights, network, scopes)
    ruleset = _LIBC.syscall(_LANDLOCK_CREATE_RULESET, attributes, len(attributes), 0)
    if ruleset < 0:
        return False
    for path in filter(os.path.isdir, readable):
        _allow_reading(ruleset, path, _READ_FILE | _READ_DIR)
    restricted: int = _LIBC.syscall(_LANDLOCK_RESTRICT_SELF, ruleset, 0)
    os.close(ruleset)
    return restricted == 0


def _allow_reading(ruleset: int, path: str, rights: int) -> None:
    directory = os.open(path, os.O_PATH | os.O_CLOEXEC)
    _LIBC.syscall(_LANDLOCK_ADD_RULE, ruleset, _LANDLOCK_RULE_PATH_BENEATH, struct.pack("=Qi", rights, directory), 0)
    os.close(directory)


def _filter_system_calls() -> bool:
    """Allow only the system calls that decoding needs; threads, opening files to read, and signals to itself."""
    known = _SYSTEM_CALLS.get(platform.machine())
    if known is None or sys.maxsize < 1 << 32:
        ctypes.set_errno(38)
        return False
    program = b"".join(_instructions(*known))
    instructions = ctypes.create_string_buffer(program, len(program))
    header = struct.pack("HP", len(program) // 8, ctypes.addressof(instructions))
    return bool(_LIBC.prctl(_PR_SET_SECCOMP, _SECCOMP_MODE_FILTER, header, 0, 0) == 0)


def _instructions(architecture: int, allowed: tuple[int, ...], checked: tuple[int, int, int]) -> Iterator[bytes]:
    clone, openat, tgkill = checked
    yield _instruction(_LOAD, _ARCHITECTURE)
    yield _instruction(_JUMP_IF_EQUAL, architecture, 1, 0)
    yield _instruction(_RETURN, _REFUSE)
    yield _instruction(_LOAD, _NUMBER)
    for number in allowed:
        yield _instruction(_JUMP_IF_EQUAL, number, 0, 1)
        yield _instruction(_RETURN, _ALLOW)
    yield from _allow_if(clone, 0, _JUMP_IF_ANY_BIT, _CLONE_THREAD)
    yield from _allow_if(openat, 2, _JUMP_IF_ANY_BIT, _OPENS_FOR_WRITING, negate=True)
    yield from _allow_if(tgkill, 0, _JUMP_IF_EQUAL, os.getpid())
    yield _instruction(_RETURN, _REFUSE)


def _allow_if(number: int, argument: int, jump: int, value: int, *, negate: bool = False) -> Iterator[bytes]:
    """Allow a system call if its *argument* passes the test. The lower half of an argument suffices here."""
    yield _instruction(_JUMP_IF_EQUAL, number, 0, 4)
    yield _instruction(_LOAD, _ARGUMENTS + 8 * argument)
    yield _instruction(jump, value, int(negate), int(not negate))
    yield _instruction(_RETURN, _ALLOW)
    yield _instruction(_RETURN, _REFUSE)


def _instruction(code: int, value: int, if_true: int = 0, if_false: int = 0) -> bytes:
    return struct.pack("=HBBI", code, if_true, if_false, value)
