"""Starts QEMU, copies what the guest says, and decides how the run ended."""

import contextlib
import ctypes
import dataclasses
import json
import os
import pathlib
import re
import secrets
import selectors
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import termios
import time

import emulator
import initramfs
import kernels
import splats
from common import (CACHE, EXIT_LAB, EXIT_TIMEOUT, LabError, cache_dir, need_tool,
                    progress, say)

KEEP_RUNS = 20
CONSOLE_LINES = 30
BOOT_TIMEOUT = 180      # seconds until COMMAND must have started
LOOK_EVERY = 5          # seconds, at the console and at the processors
STILL = 1               # sign of life of its processors a second: with fewer it stands still
NOT_IN_GUEST = ("/dev", "/proc", "/sys", "/run")
PASSED_ENV = ("TERM", "NO_COLOR", "CI")


@dataclasses.dataclass(frozen=True)
class Iommu:
    """An emulated IOMMU: the machine it needs, its device, and the kernel's arguments."""
    name: str
    machine: str
    device: str
    append: str
    type1_params: str = ""


IOMMUS = {iommu.name: iommu for iommu in (
    Iommu("intel", "q35,kernel-irqchip=split",
          "intel-iommu,intremap=on,caching-mode=on", "intel_iommu=on"),
    Iommu("amd", "q35", "amd-iommu", "", "allow_unsafe_interrupts=1"),
    Iommu("virtio", "q35", "virtio-iommu-pci,addr=0xf", "", "allow_unsafe_interrupts=1"),
)}
DEFAULT_IOMMU = "intel"

# The TSC counts instructions then. A kernel that does not trust it makes of sched_clock() something
# that stands still between a late tick and the next: the time of threads would be too short.
ICOUNT_ARGS = "tsc=reliable"
# QEMU emulates `rep movsb` byte by byte, and a kernel that is told of it clears and copies all its
# pages so: a tenth and more of all time. What is counted stays as it was.
NO_STRING_MOVES = "erms=off,fsrm=off"
KERNEL_ARGS = ("console=ttyS0 loglevel=5 panic=-1 oops=panic mitigations=off audit=0 "
               "no_timer_check printk.time=1")


def lookup_iommu(name):
    try:
        return IOMMUS[name]
    except KeyError:
        raise LabError(f"unknown IOMMU {name!r}: use one of {', '.join(IOMMUS)}") from None


@dataclasses.dataclass
class Settings:
    """What the caller asked for."""
    kernel: str = kernels.DEFAULT_KERNEL
    iommu: str = DEFAULT_IOMMU
    smp: int = 2
    mem: str = "4G"
    la57: bool = True
    icount: bool = False
    in_turn: bool = False
    vfio: bool = True
    append: str = ""
    qemu: str = ""
    modules: list = dataclasses.field(default_factory=list)
    env: dict = dataclasses.field(default_factory=dict)
    allow: list = dataclasses.field(default_factory=list)
    out: str = ""
    timeout: float = 600
    still: float = 0        # seconds, 0: it may sleep as long as it wants
    command: list = dataclasses.field(default_factory=list)
    shell: bool = False


# --- what belongs to one run -----------------------------------------------------------------

def _quote_conf(values):
    return "".join(f"{key}={shlex.quote(str(value))}\n" for key, value in values.items())


def _terminal_size(settings):
    """What stty must be told in the guest; empty when there is no shell."""
    if not settings.shell:
        return ""
    columns, rows = os.get_terminal_size(0)
    return f"rows {rows} columns {columns}"


def _guest_env(settings):
    env = {
        "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        "HOME": "/root", "USER": "root", "LOGNAME": "root", "SHELL": "/bin/sh",
        "LANG": "C.UTF-8", "TERM": "dumb",
    }
    for name in PASSED_ENV:
        if name in os.environ:
            env[name] = os.environ[name]
    env.update(settings.env)
    return env


def _command_script(settings):
    """The script that the guest's /bin/sh runs; it becomes the command."""
    lines = [f"export {k}={shlex.quote(v)}" for k, v in _guest_env(settings).items()]
    cwd = os.getcwd()
    lines.append(f"cd {shlex.quote(cwd)} || {{ echo lab: {shlex.quote(cwd)} is not in the guest "
                 f">&2; exit {EXIT_LAB}; }}")
    lines.append("unset OLDPWD SHLVL")
    lines.append("exec " + shlex.join(settings.command))
    return "\n".join(lines) + "\n"


def _extra_modules(tree, settings, archive):
    """Put the caller's modules into the run's archive, instead of the kernel's or behind them."""
    preloaded = set(tree.load_order(initramfs.BOOT_MODULES))
    if settings.vfio:
        preloaded |= set(tree.load_order(initramfs.VFIO_MODULES))
    extra = []
    for name in settings.modules:
        try:
            data = pathlib.Path(name).read_bytes()
        except OSError as error:
            raise LabError(f"cannot read module {name}: {error.strerror}") from None
        info = kernels.modinfo(data)
        if data[:4] != b"\x7fELF" or "vermagic" not in info:
            raise LabError(f"{name} is not a kernel module: build one with scripts/lab module or "
                           "scripts/lab mutant")
        release = info["vermagic"].split()[0]
        if release != tree.release:
            raise LabError(f"{name} was built for kernel {release}, not for {tree.release}: "
                           f"build it with --kernel {settings.kernel}")
        module = kernels.module_name(info.get("name", name))
        archive.file(f"modules/{module}.ko", data)
        if module in preloaded:
            continue
        needs = [n for n in info.get("depends", "").split(",") if n]
        for need in tree.load_order(needs):
            if need not in preloaded and need not in extra:
                archive.file(f"modules/{need}.ko", tree.read_module(need))
                extra.append(need)
        if module not in extra:
            extra.append(module)
    archive.file("modules/extra.list", "".join(f"{m}\n" for m in extra))


def _run_archive(tree, iommu, settings, token):
    archive = initramfs.Cpio()
    archive.file("lab/conf", _quote_conf({
        "LAB_KERNEL": settings.kernel, "LAB_IOMMU": settings.iommu, "LAB_RELEASE": tree.release,
        "LAB_MODULES": tree.modules, "LAB_OUT": settings.out, "LAB_TOKEN": token,
        "LAB_VFIO": "1" if settings.vfio else "", "LAB_SHELL": _terminal_size(settings),
        "VFIO_TYPE1_PARAMS": iommu.type1_params,
    }))
    archive.file("lab/command", _command_script(settings))
    _extra_modules(tree, settings, archive)
    return archive.finish()


def live_runs():
    """The folders of the runs that have not ended."""
    return [p for p in cache_dir("runs").iterdir() if p.is_dir() and _alive(p)]


def _new_run_dir():
    runs = cache_dir("runs")
    stamp = time.strftime("%Y%m%d-%H%M%S")
    folder = runs / f"{stamp}-{os.getpid()}"
    folder.mkdir()
    (folder / "pid").write_text(f"{os.getpid()}\n")
    old = sorted(p for p in runs.iterdir() if p.is_dir() and p != folder)
    for path in old[:max(0, len(old) - KEEP_RUNS + 1)]:
        if not _alive(path):
            shutil.rmtree(path, ignore_errors=True)
    return folder


def _alive(run_dir):
    try:
        os.kill(int((run_dir / "pid").read_text()), 0)
    except (OSError, ValueError):
        return False
    return True


# --- QEMU ------------------------------------------------------------------------------------

def _escape(value):
    """A value inside one of QEMU's comma-separated options."""
    return str(value).replace(",", ",,")


def _qemu_argv(tree, iommu, settings, folder, ports):
    in_turn = settings.icount or settings.in_turn
    cpu = "max" if settings.la57 else "max,la57=off"
    if not settings.icount:
        cpu += "," + NO_STRING_MOVES
    argv = [
        need_tool("qemu-system-x86_64", "qemu-system-x86"), "-nodefaults", "-no-user-config",
        "-display", "none", "-no-reboot", "-name", "lab,debug-threads=on",
        "-machine", iommu.machine, "-accel", f"tcg,thread={'single' if in_turn else 'multi'}",
        "-cpu", cpu,
        "-smp", str(settings.smp), "-m", settings.mem,
        "-kernel", str(tree.vmlinuz), "-initrd", str(folder / "initrd"),
        "-append", " ".join(filter(None, (KERNEL_ARGS, ICOUNT_ARGS if settings.icount else "",
                                          iommu.append, settings.append))),
        "-device", iommu.device,
        "-device", "edu,dma_mask=0xffffffff,addr=0x10",
        "-chardev", f"file,id=console,path={_escape(folder / 'console.log')}",
        "-serial", "chardev:console",
        "-device", "virtio-serial-pci,max_ports=8,addr=0x11",
    ]
    if settings.icount:
        argv += ["-icount", "shift=1,sleep=off"]
    if settings.shell:
        argv += ["-chardev", "stdio,id=tty,signal=off", "-device", "virtconsole,chardev=tty,nr=0"]
    for number, (name, sock) in enumerate(ports.items(), 1):
        argv += ["-chardev", f"socket,id={name},fd={sock.fileno()}",
                 "-device", f"virtserialport,chardev={name},name={name},nr={number}"]
    argv += ["-fsdev", "local,id=root,path=/,security_model=none,readonly=on,multidevs=remap",
             "-device", "virtio-9p-pci,fsdev=root,mount_tag=labroot,addr=0x12"]
    if settings.out:
        argv += ["-fsdev", f"local,id=out,path={_escape(settings.out)},security_model=none,"
                           "multidevs=remap",
                 "-device", "virtio-9p-pci,fsdev=out,mount_tag=labout,addr=0x13"]
    return argv + shlex.split(settings.qemu)


class Port:
    """The host's end of one virtio-serial port: bytes up to a token go to a sink."""

    def __init__(self, name, sink, token):
        self.name = name
        self.sink = sink
        self.token = token
        self.done = False
        self._held = b""
        self.host, self.guest = socket.socketpair()

    def take(self):
        data = self.host.recv(1 << 18)
        if not data:
            return False
        data = self._held + data
        end = data.find(self.token)
        if end >= 0:
            self.sink(data[:end])
            self._held = b""
            self.done = True
            return True
        keep = self._suffix_of_token(data)
        self._held = data[len(data) - keep:]
        if len(data) > keep:
            self.sink(data[:len(data) - keep])
        return True

    def flush(self):
        """Give out what was held back, when no token can follow."""
        if self._held:
            self.sink(self._held)
            self._held = b""

    def _suffix_of_token(self, data):
        for size in range(min(len(self.token) - 1, len(data)), 0, -1):
            if data.endswith(self.token[:size]):
                return size
        return 0


class Ctl:
    """What init and stage2 report, line by line."""

    def __init__(self):
        self.host, self.guest = socket.socketpair()
        self.started = False
        self.code = None
        self.failure = None
        self._rest = b""

    def take(self):
        data = self.host.recv(65536)
        if not data:
            return False
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in lines:
            word, _, text = line.decode(errors="replace").partition(" ")
            if word == "start":
                self.started = True
            elif word == "exit":
                self.code = int(text)
            elif word == "fail":
                self.failure = text
            elif word == "note":
                say(text)
        return True


def _die_with_parent():
    """In the child: be killed when the lab is, however that happens."""
    ctypes.CDLL(None, use_errno=True).prctl(1, signal.SIGKILL)


class BrokenOutput(Exception):
    """Nobody reads our output any more."""


def _writer(fd):
    def write(data):
        view = memoryview(data)
        try:
            while view:
                view = view[os.write(fd, view):]
        except BrokenPipeError:
            raise BrokenOutput() from None
    return write


class Run:
    """One boot of the guest."""

    def __init__(self, settings):
        self.settings = settings
        self.kernel = kernels.lookup(settings.kernel)
        self.iommu = lookup_iommu(settings.iommu)
        need_tool("qemu-system-x86_64", "qemu-system-x86")
        self.tree = kernels.get(self.kernel)
        self._check_driver()
        token = secrets.token_hex(16)
        base = initramfs.base(self.tree)
        extra = _run_archive(self.tree, self.iommu, settings, token)
        self.folder = _new_run_dir()
        (self.folder / "initrd").write_bytes(base.read_bytes() + extra)
        self._log = bytearray()
        self.ctl = Ctl()
        token = token.encode()
        self.out = Port("out", _writer(1), token)
        self.err = Port("err", _writer(2), token)
        self.log = Port("log", self._log.extend, token)
        self.process = None
        self.start = self._looked = time.monotonic()
        self._moved = self.start, 0     # when its processors last showed life, and how much ever

    def _check_driver(self):
        for name in initramfs.IOMMU_MODULES.get(self.iommu.name, ()):
            if not self.tree.has_driver(name):
                raise LabError(f"kernel {self.tree.release} was built without {name}: use another "
                               "--iommu or --kernel")

    def _spawn(self):
        ports = {"ctl": self.ctl.guest, "out": self.out.guest, "err": self.err.guest,
                 "log": self.log.guest}
        argv = _qemu_argv(self.tree, self.iommu, self.settings, self.folder, ports)
        (self.folder / "qemu.args").write_text(shlex.join(argv) + "\n")
        self.qemu_log = open(self.folder / "qemu.log", "wb")
        self.process = subprocess.Popen(
            argv, stdin=None if self.settings.shell else subprocess.DEVNULL,
            stdout=None if self.settings.shell else self.qemu_log, stderr=self.qemu_log,
            pass_fds=[s.fileno() for s in ports.values()],
            process_group=None if self.settings.shell else 0, preexec_fn=_die_with_parent)
        for sock in ports.values():
            sock.close()

    def _finished(self):
        return (self.ctl.failure is not None or
                self.ctl.code is not None and self.out.done and self.err.done and self.log.done)

    def _copy(self):
        """Copy until the guest has finished. Returns 'done' or, for want of that, why not."""
        pidfd = os.pidfd_open(self.process.pid)
        with contextlib.ExitStack() as stack, selectors.DefaultSelector() as poll:
            stack.callback(os.close, pidfd)
            poll.register(pidfd, selectors.EVENT_READ, None)
            for port in (self.ctl, self.out, self.err, self.log):
                poll.register(port.host, selectors.EVENT_READ, port)
            while not self._finished():
                left = self._time_left()
                if left <= 0:
                    return "timeout"
                events = poll.select(min(left, LOOK_EVERY))
                for key, _ in events:
                    if key.data is not None and not key.data.take():
                        poll.unregister(key.fileobj)
                if len(events) == 1 and events[0][0].data is None:
                    return "done" if self._finished() else "dead"
                if time.monotonic() >= self._looked + LOOK_EVERY:
                    self._looked = time.monotonic()
                    if emulator.stuck(self._console()):
                        return "stuck"
                    if self._stands_still():
                        return "still"
        return "done"

    def _stands_still(self):
        """Whether its processors have shown next to no life for as long as they may."""
        life = _signs_of_life(self.process.pid)
        if life is None or life - self._moved[1] > STILL * self.settings.still:
            self._moved = self._looked, life or 0
        return 0 < self.settings.still < self._looked - self._moved[0]

    def _time_left(self):
        limit = self.settings.timeout or float("inf")
        if not self.ctl.started:
            limit = min(limit, BOOT_TIMEOUT * (self.settings.smp if self.settings.icount else 1))
        return self.start + limit - time.monotonic()

    def _kill(self):
        if self.process and self.process.poll() is None:
            self.process.kill()
            self.process.wait()

    def _console(self):
        try:
            text = (self.folder / "console.log").read_text(errors="replace")
        except FileNotFoundError:
            return ""
        return re.sub(r"\x1b(\[[0-9;?]*[A-Za-z]|c)|\r", "", text)

    def run(self):
        """Boot, and return the exit code for the caller."""
        try:
            self._spawn()
            how = self._copy()
        except BrokenOutput:
            return 128 + signal.SIGPIPE
        finally:
            self._kill()
            (self.folder / "initrd").unlink(missing_ok=True)
        for port in (self.out, self.err):
            with contextlib.suppress(BrokenOutput):
                port.flush()
        if self._log:
            (self.folder / "dmesg.log").write_bytes(self._log)
        code = self._verdict(how)
        (self.folder / "result.json").write_text(json.dumps({
            "kernel": self.settings.kernel, "release": self.tree.release,
            "iommu": self.settings.iommu, "command": self.settings.command, "how": how,
            "command_code": self.ctl.code, "code": code,
            "seconds": round(time.monotonic() - self.start, 2)}, indent=1) + "\n")
        return code

    def _verdict(self, how):
        """Say what went wrong, if anything, and give the exit code."""
        code = self.ctl.code
        if self.ctl.failure is not None:
            say(f"the guest could not be prepared: {self.ctl.failure}")
            code = EXIT_LAB
        elif how == "timeout":
            stage = "COMMAND did not end" if self.ctl.started else "the guest did not come up"
            say(f"timeout: {stage} within {time.monotonic() - self.start:.0f} s")
            code = EXIT_TIMEOUT
        elif how == "dead":
            when = ("COMMAND's exit code was delivered" if self.ctl.started
                    else "COMMAND was started")
            say(f"the guest died before {when} (qemu ended with {self.process.returncode})")
            self._show((self.folder / "qemu.log").read_text(errors="replace").splitlines()[-10:])
            code = EXIT_LAB
        elif how == "still":
            say(f"given up, for it stands still: next to nothing was done for "
                f"{self.settings.still:.0f} s")
            code = EXIT_LAB
        elif how == "stuck":
            say(f"given up, for it does not come on: {emulator.stuck(self._console())}")
            code = EXIT_LAB
        complained = self._splats()
        if complained and code != EXIT_TIMEOUT:
            return EXIT_LAB
        if how != "done" and not complained or self.ctl.failure is not None:
            self._tail()
        return code

    @staticmethod
    def _show(lines):
        for line in lines:
            print(f"  {line}", file=sys.stderr)

    def _tail(self):
        lines = [line for line in self._console().splitlines() if line.strip()]
        say(f"last lines of the console ({self._rel('console.log')}):")
        self._show(lines[-CONSOLE_LINES:])

    def _rel(self, name):
        path = self.folder / name
        return path.relative_to(CACHE.parent)

    def _splats(self):
        name, kinds, lines = "console.log", *splats.find(self._console(), self.settings.allow)
        if self._log:
            more, more_lines = splats.find(self._log.decode(errors="replace"),
                                           self.settings.allow)
            if len(more) >= len(kinds):
                name, kinds, lines = "dmesg.log", more, more_lines
        if not kinds:
            return False
        say(f"the guest's kernel complained: {', '.join(kinds)} ({self._rel(name)}):")
        self._show(lines)
        fault = emulator.fault(self._console())
        if fault:
            say(f"QEMU's own fault, try again: {fault}")
        return True


def _signs_of_life(pid):
    """
    How often the threads that are QEMU's processors went to sleep, and the ticks that they ran. All
    that QEMU does beside them (timers to which no processor listens, 1 % of one of ours) is no life
    of the guest's. None: there is no such thread.
    """
    found = None
    for task in pathlib.Path(f"/proc/{pid}/task").glob("*"):
        try:
            name = (task / "comm").read_text(encoding="ascii", errors="replace")
            if re.match(r"(ALL CPUs|CPU \d+)/", name):
                status = (task / "status").read_text(encoding="ascii", errors="replace")
                times = (task / "stat").read_text(encoding="ascii", errors="replace")
                sleeps = re.search(r"^voluntary_ctxt_switches:\s*(\d+)", status, re.M)
                user, system = times.rpartition(")")[2].split()[11:13]
                found = (found or 0) + int(sleeps[1]) + int(user) + int(system)
        except OSError:     # it is over
            pass
    return found


def _inside(path, folders):
    return any(path == folder or path.startswith(folder + "/") for folder in folders)


def _prepare_out(settings):
    if settings.out:
        out = pathlib.Path(settings.out).resolve()
        if _inside(str(out), NOT_IN_GUEST) or str(out) == "/":
            raise LabError(f"--out {out} cannot be shared with the guest: use a folder elsewhere")
        try:
            out.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise LabError(f"--out {out}: {error.strerror}") from None
        settings.out = str(out)


def run(settings):
    """Boot, run the command, and return the exit code for the caller."""
    if _inside(os.getcwd(), NOT_IN_GUEST):
        raise LabError(f"{os.getcwd()} is not in the guest: start the lab from another folder")
    _prepare_out(settings)
    return Run(settings).run()


def shell(settings):
    """Boot, and give the terminal to a shell in the guest."""
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise LabError("shell needs a terminal: use scripts/lab run -- COMMAND")
    settings.shell = True
    settings.timeout = 0
    settings.command = settings.command or ["/bin/bash" if os.access("/bin/bash", os.X_OK)
                                            else "/bin/sh", "-i"]
    before = termios.tcgetattr(0)
    try:
        return run(settings)
    finally:
        termios.tcsetattr(0, termios.TCSADRAIN, before)
