"""Builds kernel modules for a guest kernel: mutants of its own modules, and external ones."""

import contextlib
import os
import pathlib
import re
import shutil
import subprocess
import sys
import time

import common
import elf
import hosttools
import kernels
from common import (LabError, cache_dir, locked, need_tool, progress, run_tool, say, scratch_dir,
                    sha256_bytes, write_atomic)

FORMAT = 1          # of what is built; a change builds anew
KEEP_DAYS = 14      # a module that nobody asked for in so long is built again
LEFTOVERS = re.compile(r"\.(ko|o|mod|mod\.c|a|cmd|order|symvers)$|^\.(tmp_versions|git)$"
                       r"|^(modules\.order|Module\.symvers)$")
HEADER = re.compile(r"#\s*(module|source|directory):\s*(\S+)\s*$")

# Put behind the distribution's own Makefile: builds only the module that is asked for.
ONE_MODULE = """\
include $(dir $(lastword $(MAKEFILE_LIST)))Makefile.distribution
lab-module := $(strip $(foreach o,$(obj-m),$(if $(filter {name},$(subst -,_,$(basename $(notdir \
$(o))))),$(o))))
ifeq ($(lab-module),)
$(error lab: {directory}/Makefile builds no module {name} in this kernel)
endif
obj-y :=
obj-m := $(firstword $(lab-module))
always-y :=
always-m :=
"""


def _make_env():
    """A caller's make must not leak into the kernel's."""
    env = {key: os.environ[key] for key in ("PATH", "HOME", "TMPDIR", "USER") if key in os.environ}
    env["LC_ALL"] = "C.UTF-8"
    return env


def _compiler():
    return run_tool([need_tool("gcc", "build-essential"), "--version"], "gcc --version")


def _pahole():
    """The path of pahole and its flags, as the kernel's own scripts choose them."""
    pahole = need_tool("pahole", "dwarves")
    text = run_tool([pahole, "--version"], "pahole --version").decode().strip()
    major, minor = (int(n) for n in re.match(r"v?(\d+)\.(\d+)", text).groups())
    flags = []
    for since, more in (((1, 21), ["--btf_gen_floats"]), ((1, 24), ["--lang_exclude=rust"]),
                        ((1, 25), ["--skip_encoding_btf_inconsistent_proto",
                                   "--btf_gen_optimized"])):
        if (major, minor) >= since:
            flags += more
    return pahole, flags, text


def vmlinux_btf(tree):
    """The type information of the kernel itself, out of its image. Returns a path."""
    path = tree.root / "vmlinux.btf"
    if not path.is_file():
        tree.check(tree.vmlinuz)
        data = elf.section(elf.vmlinux(tree.vmlinuz.read_bytes()), ".BTF")
        if data is None:
            raise LabError(f"kernel {tree.release} carries no BTF")
        write_atomic(path, data)
    return path


def _kbuild(tree, headers, folder, what):
    """Build the modules of a folder. Returns the .ko files."""
    log = folder / "lab-build.log"
    argv = [need_tool("make", "build-essential"), "-C", str(headers), f"M={folder}",
            f"-j{os.cpu_count()}", "CONFIG_DEBUG_INFO_BTF_MODULES=", "modules"]
    if not shutil.which(hosttools.compiler_of(headers)):
        argv.append("CC=gcc")
    with open(log, "wb") as out:
        done = subprocess.run(argv, stdin=subprocess.DEVNULL, stdout=out, stderr=out,
                              env=_make_env(), check=False)
    text = log.read_text(errors="replace")
    if done.returncode != 0 or common.verbose:
        sys.stderr.write(text)
    if done.returncode != 0:
        raise LabError(f"{what} does not compile for kernel {tree.release}: see the messages above")
    found = sorted(folder.rglob("*.ko"))
    if not found:
        sys.stderr.write(text)
        raise LabError(f"{what} built nothing: its Makefile needs an obj-m")
    return found


def _add_btf(tree, headers, module):
    """Give a module type information on top of the kernel's, and drop its debug information."""
    base = vmlinux_btf(tree)
    pahole, flags, _ = _pahole()
    run_tool([pahole, "-J", *flags, f"--btf_base={base}", module], f"pahole of {module.name}")
    rows = elf.sections(module.read_bytes())
    if ".BTF" not in rows:
        raise LabError(f"pahole gave {module.name} no BTF")
    if ".BTF_ids" in rows:
        resolver = headers / "tools" / "bpf" / "resolve_btfids" / "resolve_btfids"
        if resolver.exists():
            run_tool([resolver, "-b", base, module], f"resolve_btfids of {module.name}")
        else:
            say(f"{module.name} has BTF ids that this kernel's headers cannot resolve")
    run_tool([need_tool("objcopy", "binutils"), "--strip-debug", module], "objcopy")


def _deliver(modules, folder):
    """Move finished modules into the cache at once."""
    with scratch_dir(folder.parent) as scratch:
        final = scratch / "out"
        final.mkdir()
        for module in modules:
            shutil.copy(module, final / module.name)
        shutil.rmtree(folder, ignore_errors=True)
        final.rename(folder)
    return sorted(folder.glob("*.ko"))


def _cache_folder(tree, name, key):
    """Where a module of this key lies or will lie. Forgets what nobody has wanted for long."""
    parent = cache_dir("modules", tree.kernel.name)
    for old in parent.iterdir():
        with contextlib.suppress(FileNotFoundError):
            if time.time() - old.stat().st_mtime > KEEP_DAYS * 86400:
                shutil.rmtree(old, ignore_errors=True)
    return parent / f"{name}-{key[:16]}"


def _cached(folder):
    found = sorted(folder.glob("*.ko"))
    if found:
        os.utime(folder)
    return found


def _key(tree, *parts):
    return sha256_bytes(FORMAT, tree.root.name, _compiler(), _pahole()[2], *parts)


# --- external modules -------------------------------------------------------------------------

def _sources(folder):
    """The files of a module's folder that are not the product of an earlier build."""
    found = []
    for root, dirs, names in os.walk(folder):
        dirs[:] = sorted(d for d in dirs if not LEFTOVERS.search(d))
        found += [pathlib.Path(root) / n for n in sorted(names) if not LEFTOVERS.search(n)]
    return [(str(p.relative_to(folder)), p.read_bytes()) for p in found]


def module(kernel, directory):
    """Build an external module. Returns the .ko files."""
    folder = pathlib.Path(directory)
    if not (folder / "Makefile").is_file() and not (folder / "Kbuild").is_file():
        raise LabError(f"{directory} is not a module's folder: it needs a Makefile or Kbuild with "
                       "obj-m")
    tree = kernels.get(kernel)
    files = _sources(folder)
    name = folder.resolve().name
    key = _key(tree, *(part for pair in files for part in pair))
    final = _cache_folder(tree, name, key)
    with locked(f"module-{kernel.name}-{final.name}"):
        found = _cached(final)
        if found:
            return found
        headers = kernels.headers(tree)
        progress(f"building {directory} for {tree.release}")
        with scratch_dir(cache_dir("build")) as scratch:
            work = scratch / name
            for relative, data in files:
                (work / relative).parent.mkdir(parents=True, exist_ok=True)
                (work / relative).write_bytes(data)
            built = _kbuild(tree, headers, work, directory)
            for one in built:
                _add_btf(tree, headers, one)
            return _deliver(built, final)


# --- mutants ----------------------------------------------------------------------------------

class Mutant:
    """A sed script with a header that says what it changes."""

    def __init__(self, path):
        try:
            self.script = pathlib.Path(path).read_bytes()
        except OSError as error:
            raise LabError(f"cannot read {path}: {error.strerror}") from None
        self.path = path
        said = {}
        for line in self.script.decode(errors="replace").splitlines():
            match = HEADER.match(line)
            if not match:
                break
            said[match.group(1)] = match.group(2)
        if "module" not in said or "source" not in said:
            raise LabError(f"{path} must open with the lines '# module: NAME' and "
                           "'# source: PATH/IN/THE/KERNEL.c'")
        self.module = kernels.module_name(said["module"])
        self.source = pathlib.PurePosixPath(said["source"])
        self.directory = pathlib.PurePosixPath(said.get("directory", str(self.source.parent)))
        for part in (self.source, self.directory):
            if part.is_absolute() or ".." in part.parts or len(part.parts) < 1:
                raise LabError(f"{path}: {part} must be a path inside the kernel's source")

    def apply(self, original):
        """The changed source."""
        sed = need_tool("sed", "sed")
        done = subprocess.run([sed, "-f", str(self.path)], input=original, capture_output=True,
                              check=False)
        if done.returncode != 0:
            reason = done.stderr.decode(errors="replace").strip()
            raise LabError(f"{self.path} fails: {reason or f'sed ended with {done.returncode}'}")
        if done.stdout == original:
            raise LabError(f"{self.path} changes nothing in {self.source}: its patterns do not "
                           "match this kernel's source")
        return done.stdout


def _link_tree(origin, target):
    """A copy of a source tree that shares its files."""
    shutil.copytree(origin, target, copy_function=os.link, symlinks=True)


def mutant(kernel, path):
    """Build one of the kernel's own modules with a change. Returns the .ko file."""
    spec = Mutant(path)
    tree = kernels.get(kernel)
    key = _key(tree, spec.script)
    final = _cache_folder(tree, spec.module, key)
    with locked(f"module-{kernel.name}-{final.name}"):
        found = _cached(final)
        if found:
            return found[0]
        source = kernels.source(tree, [str(spec.source.parent), str(spec.directory)])
        original = source / spec.source
        if not original.is_file():
            raise LabError(f"{path}: kernel {tree.release} has no {spec.source}")
        changed = spec.apply(original.read_bytes())
        headers = kernels.headers(tree)
        kernels.link_source(tree)
        progress(f"building {spec.module} with {path} for {tree.release}")
        with scratch_dir(cache_dir("build")) as scratch:
            work = scratch / "linux"
            _link_tree(source, work)
            write_atomic(work / spec.source, changed)
            return _build_one(tree, headers, spec, work, final)


def _build_one(tree, headers, spec, work, final):
    folder = work / spec.directory
    makefile = folder / "Makefile"
    if not makefile.is_file():
        raise LabError(f"{spec.path}: the kernel has no {spec.directory}/Makefile; name the "
                       "folder of the module's Makefile with '# directory: DIR'")
    makefile.rename(folder / "Makefile.distribution")
    write_atomic(makefile, ONE_MODULE.format(name=spec.module, directory=spec.directory))
    built = _kbuild(tree, headers, folder, spec.path)
    wanted = [m for m in built if kernels.module_name(m) == spec.module]
    if len(wanted) != 1:
        raise LabError(f"{spec.path}: {spec.directory} did not build {spec.module}.ko")
    _add_btf(tree, headers, wanted[0])
    return _deliver(wanted, final)[0]
