"""Makes the build tools that come with a kernel's headers run on this machine.

The headers of a newer Debian bring programs linked against its C library, and were configured for
its compiler. The programs get that C library, from the same mirror, as a folder next to them; what
this machine's compiler cannot do is taken out of the kernel's configuration of its compiler, which
changes nothing that a module must agree on with its kernel.
"""

import os
import re
import shutil
import subprocess

import apt
from common import LabError, need_tool, progress, run_tool, scratch_dir

# Features of a compiler that the headers' makefiles and macros use without trying them first.
FEATURES = {
    "CONFIG_CC_HAS_MIN_FUNCTION_ALIGNMENT": ("-fmin-function-alignment=16", "int x;"),
    "CONFIG_CC_HAS_ASSUME": ("-Wattributes", "void f(int x) { __attribute__((assume(x > 0))); }"),
    "CONFIG_CC_HAS_NAMED_AS_FIXED_SANITIZERS": ("-fsyntax-only", "#if __GNUC__ < 13\n#error\n#endif"),
}

WRAPPER = """\
#!/bin/sh
# Runs {name} with the C library that it was linked against.
libc="${{0%/*}}/{libc}"
exec "$libc/{loader}" --library-path "$libc:/lib/x86_64-linux-gnu:/usr/lib/x86_64-linux-gnu" \\
	"$0.elf" "$@"
"""
LOADER = "ld-linux-x86-64.so.2"


def adapt(root, sources):
    """Adapt unpacked headers and build tools, once, to this machine."""
    strangers = [path for path in _programs(root) if _needs_other_libc(path)]
    if strangers:
        libc = _newer_libc(root, sources)
        for path in strangers:
            _wrap(path, libc)
    for config in root.glob("usr/src/linux-headers-*/include/config/auto.conf"):
        if not shutil.which(compiler_of(config.parents[2])):
            _forget_features(config, config.parents[1] / "generated" / "autoconf.h")


def compiler_of(headers):
    """The compiler that a headers folder names, such as gcc-12."""
    try:
        text = (headers / ".kernelvariables").read_text()
    except FileNotFoundError:
        return "gcc"
    match = re.search(r"^(?:override )?CC\s*:?=.*?(gcc-\d+)\s*$", text, re.M)
    return match.group(1) if match else "gcc"


def _programs(root):
    for path in sorted(root.glob("usr/lib/linux-kbuild-*/**/*")):
        if path.is_file() and not path.is_symlink() and os.access(path, os.X_OK):
            with open(path, "rb") as file:
                if file.read(4) == b"\x7fELF":
                    yield path


def _needs_other_libc(path):
    done = subprocess.run([need_tool("ldd", "libc-bin"), path], capture_output=True, text=True,
                          env=dict(os.environ, LC_ALL="C"), check=False)
    return re.search(r"version `GLIBC_\S+' not found", done.stdout + done.stderr) is not None


def _newer_libc(root, sources):
    """The C library of the suite below which a suite of backports lies. Returns its folder."""
    base = apt.sources(sources.suite.removesuffix("-backports"))
    progress(f"taking the C library of {base.name} for the kernel's build tools")
    base.update()
    target = root / "usr" / "lib" / "lab-libc"
    with scratch_dir(root) as scratch:
        deb = base.download("libc6", scratch)
        run_tool([need_tool("dpkg-deb", "dpkg"), "-x", deb, scratch / "libc"],
                 f"unpacking {deb.name}")
        folders = [path.parent for path in (scratch / "libc").rglob("libc.so.6")]
        loaders = [path for path in (scratch / "libc").rglob(LOADER) if path.is_file()]
        if len(folders) != 1 or not loaders:
            raise LabError(f"{deb.name} does not have the C library where it is expected")
        target.mkdir()
        for path in folders[0].iterdir():
            if path.is_file() and ".so" in path.name:
                shutil.copy(path, target / path.name)
        shutil.copy(loaders[0], target / LOADER)
    return target


def _wrap(path, libc):
    path.rename(path.with_name(path.name + ".elf"))
    path.write_text(WRAPPER.format(name=path.name, loader=LOADER,
                                   libc=os.path.relpath(libc, path.parent)))
    path.chmod(0o755)


def _has(flag, text):
    done = subprocess.run([need_tool("gcc", "build-essential"), "-x", "c", "-Werror", flag, "-c",
                           "-o", "/dev/null", "-"], input=text, capture_output=True, text=True,
                          check=False)
    return done.returncode == 0


def _forget_features(*files):
    lacking = [name for name, trial in FEATURES.items() if not _has(*trial)]
    for path in files:
        lines = path.read_text().splitlines(keepends=True)
        kept = [line for line in lines if not any(re.search(rf"\b{n}\b", line) for n in lacking)]
        path.write_text("".join(kept))
