"""What runs inside the sandbox: this file is started as a script by `sandbox.py`, and imports nothing of ours.

It reads a job, takes away from itself what code of a model has no need of, runs the code and then each test, and writes
one line a test to a pipe. Walls, the outer ones first, each where the system has it:

1. limits of the kernel (setrlimit) on processor time, memory, size and number of files, processes;
2. Landlock (Linux 5.13): reading only Python's own library, writing only the folder it was given;
3. seccomp (Linux): no socket, no new process, no other program, no signal to another process, no change of limits,
   owners or modes;
4. an audit hook of Python, which refuses the same with words, and is all there is on other systems beside the limits.
"""

from __future__ import annotations

import ctypes
import errno
import json
import os
import platform
import resource
import struct
import sys
import sysconfig
from collections.abc import Sequence
from contextlib import suppress

# Numbers of system calls: on x86-64, and on 64-bit ARM, None where it has none.
CALLS = {
    "socket": (41, 198), "socketpair": (53, 199), "io_uring_setup": (425, 425), "fork": (57, None), "vfork": (58, None),
    "execve": (59, 221), "execveat": (322, 281), "ptrace": (101, 117), "process_vm_readv": (310, 270),
    "process_vm_writev": (311, 271), "kill": (62, 129), "tkill": (200, 130), "tgkill": (234, 131),
    "rt_sigqueueinfo": (129, 138), "rt_tgsigqueueinfo": (297, 240), "pidfd_send_signal": (424, 424),
    "setrlimit": (160, 164), "bpf": (321, 280), "perf_event_open": (298, 241), "mount": (165, 40), "umount2": (166, 39),
    "pivot_root": (155, 41), "chroot": (161, 51), "setns": (308, 268), "unshare": (272, 97), "reboot": (169, 142),
    "init_module": (175, 105), "finit_module": (313, 273), "delete_module": (176, 106), "kexec_load": (246, 104),
    "keyctl": (250, 219), "add_key": (248, 217), "request_key": (249, 218), "clock_settime": (227, 112),
    "settimeofday": (164, 170), "chmod": (90, None), "fchmod": (91, 52), "fchmodat": (268, 53), "fchmodat2": (452, 452),
    "chown": (92, None), "fchown": (93, 55), "lchown": (94, None), "fchownat": (260, 54), "setxattr": (188, 5),
    "lsetxattr": (189, 6), "fsetxattr": (190, 7), "utime": (132, None), "utimes": (235, None), "utimensat": (280, 88),
    "memfd_create": (319, 279), "shmget": (29, 194), "msgget": (68, 186), "mq_open": (240, 180), "semget": (64, 190),
}  # fmt: skip
CLONE, CLONE3, PRLIMIT = (56, 220), 435, (302, 261)
MACHINES = {"x86_64": (0, 0xC000003E), "aarch64": (1, 0xC00000B7)}
THREAD, HIGH = 0x00010000, 0x40000000  # CLONE_THREAD; the numbers of x86-64's second table begin here
LOAD, EQUAL, FROM, ANY, SAY = 0x20, 0x15, 0x35, 0x45, 0x06  # of BPF: load a word, ==, >=, has a bit of, return
ALLOW, REFUSE = 0x7FFF0000, 0x00050000 | errno.EPERM
WRITES = 0b111_1111_1111_0010  # Landlock's rights: all but executing and reading
READS = 0b1100
RULESET, RULE, RESTRICT = 444, 445, 446  # the same number on every machine
REFUSED = ("socket.", "subprocess.", "os.exec", "os.fork", "os.posix_spawn", "os.spawn", "os.system", "os.kill", "pty.",
           "os.startfile", "os.putenv", "os.chmod", "os.chown", "os.chflags", "os.setxattr", "os.utime", "ctypes.",
           "signal.pthread_kill", "resource.setrlimit", "resource.prlimit", "syslog.", "mmap.", "fcntl.", "urllib.",
           "ftplib.", "http.client.", "smtplib.", "webbrowser.", "sys.addaudithook")  # fmt: skip
PLACED = ("os.remove", "os.rename", "os.mkdir", "os.rmdir", "os.link", "os.symlink", "os.truncate", "shutil.")


def limit(seconds: int, megabytes: int) -> None:
    """By the kernel; a limit it does not know is passed over."""
    size = megabytes << 20
    wanted = {
        "CPU": (seconds, seconds + 1), "AS": (size, size), "FSIZE": (1 << 20, 1 << 20), "NOFILE": (32, 32),
        "NPROC": (0, 0), "CORE": (0, 0),
    }  # fmt: skip
    for name, bounds in wanted.items():
        with suppress(ValueError, OSError, AttributeError):
            resource.setrlimit(getattr(resource, f"RLIMIT_{name}"), bounds)


def fence(folder: str, readable: Sequence[str] = ()) -> None:
    """Landlock: only what lies under these folders can be opened, and of them only `folder` be changed."""
    call = ctypes.CDLL(None, use_errno=True).syscall
    version = call(RULESET, None, 0, 1)
    if version < 1:
        return
    ours = READS | 1 | WRITES & ~(0 if version >= 3 else 1 << 14) & ~(0 if version >= 2 else 1 << 13)
    ruleset = call(RULESET, struct.pack("Q", ours), ctypes.c_size_t(8), 0)
    library = os.path.dirname(sysconfig.get_path("stdlib"))
    places = [*readable, library, sysconfig.get_path("platstdlib"), "/usr/lib", "/usr/lib64", "/lib", "/lib64",
                "/usr/share/zoneinfo"]  # fmt: skip
    for place, rights in [*((one, READS) for one in places), (folder, READS | WRITES & ours)]:
        if os.path.isdir(place):
            handle = os.open(place, os.O_RDONLY | os.O_DIRECTORY)
            call(RULE, ruleset, 1, struct.pack("=Qi", rights, handle), 0)
            os.close(handle)
    ctypes.CDLL(None).prctl(38, 1, 0, 0, 0)  # no new privileges, without which neither wall may be built
    call(RESTRICT, ruleset, 0)
    os.close(ruleset)


def seal() -> None:
    """seccomp: these calls to the kernel fail as if they were not permitted."""
    column, machine = MACHINES.get(platform.machine(), (0, 0))
    if not machine:
        return
    steps = _steps(column, machine)
    program = ctypes.create_string_buffer(b"".join(struct.pack("=HBBI", *step) for step in steps))
    told = ctypes.create_string_buffer(struct.pack("HxxxxxxP", len(steps), ctypes.addressof(program)))
    libc = ctypes.CDLL(None)
    libc.prctl(38, 1, 0, 0, 0)
    libc.prctl(22, 2, told, 0, 0)


def _steps(column: int, machine: int) -> list[tuple[int, int, int, int]]:
    """What the kernel does with each call: the operation, how many steps on if it holds, and if not, and its number."""
    refuse, allow = (SAY, 0, 0, REFUSE), (SAY, 0, 0, ALLOW)
    steps = [(LOAD, 0, 0, 4), (EQUAL, 1, 0, machine), refuse, (LOAD, 0, 0, 0), (FROM, 0, 1, HIGH), refuse]
    for numbers in CALLS.values():
        number = numbers[column]
        if number is not None:
            steps += [(EQUAL, 0, 1, number), refuse]
    # The C library asks for threads in the new way first, and in the old one where the kernel does not know it.
    steps += [(EQUAL, 0, 1, CLONE3), (SAY, 0, 0, 0x00050000 | errno.ENOSYS)]
    steps += [(EQUAL, 0, 4, CLONE[column]), (LOAD, 0, 0, 16), (ANY, 1, 0, THREAD), refuse, allow]
    # Asking for a limit is allowed, which passes no new one: both halves of the third argument are 0.
    steps += [(EQUAL, 0, 5, PRLIMIT[column]), (LOAD, 0, 0, 32), (EQUAL, 0, 2, 0), (LOAD, 0, 0, 36), (EQUAL, 1, 0, 0)]
    return [*steps, refuse, allow]


def watch(folder: str) -> None:
    """Python tells of what it is about to do; what is refused raises, with words."""
    inside, real, decoded = folder + os.sep, os.path.realpath, os.fsdecode
    flags = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND

    def outside(place: object) -> bool:
        if not isinstance(place, (str, bytes, os.PathLike)):
            return False
        return not (real(decoded(place)) + os.sep).startswith(inside)

    def hook(event: str, told: tuple) -> None:  # type: ignore[type-arg]
        writes = event == "open" and isinstance(told[2], int) and told[2] & flags
        if event.startswith(REFUSED):
            raise PermissionError(f"the sandbox refuses {event}")
        if (writes or event.startswith(PLACED)) and any(
            outside(place) for place in told[: 2 if event != "open" else 1]
        ):
            raise PermissionError(f"the sandbox refuses to write outside its folder: {event}")

    sys.addaudithook(hook)


def main() -> None:
    job = json.loads(sys.stdin.read())
    pipe, write = int(sys.argv[1]), os.write
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    # What the verdict is made of is made before the code runs, which may change whatever this process can name.
    passed = [f"{job['nonce']} {number} passed\n".encode() for number in range(len(job["tests"]))]
    failed = [f"{job['nonce']} {number} failed ".encode() for number in range(len(job["tests"]))]
    tests = [compile(test, f"test {number + 1}", "exec", dont_inherit=True) for number, test in enumerate(job["tests"])]
    run, base, told, code = exec, BaseException, _told, job["code"]
    folder = os.path.realpath(os.getcwd())
    limit(job["seconds"], job["megabytes"])
    if sys.platform == "linux":
        fence(folder)
        seal()
    watch(folder)
    del job
    names: dict[str, object] = {"__name__": "reply"}
    try:
        run(compile(code, "reply", "exec", dont_inherit=True), names)
    except base as error:
        for one in failed:
            write(pipe, one + told("the code raised ", error))
        tests = []
    for number, test in enumerate(tests):
        try:
            run(test, names)
            write(pipe, passed[number])
        except base as error:
            write(pipe, failed[number] + told("", error))
    sys.stdout.flush()
    os._exit(0)  # threads that the code began go on for ever, if it wants


def _told(before: str, error: BaseException) -> bytes:
    try:
        said = " ".join(f"{before}{type(error).__name__}: {error}".split())[:200]
    except BaseException:  # noqa: BLE001 - an error of the code's own may raise when it is asked what it says
        said = f"{before}an error that cannot be told"
    return said.encode("utf-8", "replace") + b"\n"


if __name__ == "__main__":
    main()
