"""The guest kernels: which there are, and how they get into the cache.

A kernel is a row of KERNELS. Its packages are named by metapackages, so that the point version
is whatever the distribution carries today; what was unpacked is remembered with checksums and
used from then on without a network.
"""

import dataclasses
import json
import lzma
import os
import pathlib
import re
import shutil
import subprocess

import apt
import hosttools
from common import (LabError, Unavailable, cache_dir, locked, need_tool, progress, run_tool, say,
                    scratch_dir, sha256_bytes, sha256_file, write_atomic)


@dataclasses.dataclass(frozen=True)
class Kernel:
    """
    Where a kernel comes from. `image` is a metapackage. `suite` is a suite of the machine's
    mirror, or empty for the machine's own sources.
    """
    name: str
    image: str
    source: str
    suite: str = ""

    @property
    def packages(self):
        return apt.sources(self.suite)


KERNELS = {kernel.name: kernel for kernel in (
    Kernel("6.1", "linux-image-amd64", "linux-source-6.1"),
    Kernel("6.12", "linux-image-6.12-amd64", "linux-source-6.12"),
    Kernel("7.3", "linux-image-amd64", "linux-source-7.3", "trixie-backports"),
)}
DEFAULT_KERNEL = "6.1"

# What is unpacked of a kernel's source at once; other folders follow when they are asked for.
SOURCE_FOLDERS = ("drivers/vfio", "drivers/iommu", "virt", "arch/x86/kvm")

MANIFEST = ".manifest.json"
FORMAT = 1      # of the unpacked tree; a change unpacks anew


def lookup(name):
    try:
        return KERNELS[name]
    except KeyError:
        raise LabError(f"unknown kernel {name!r}: use one of {', '.join(KERNELS)}") from None


class Tree:
    """An unpacked kernel image in the cache."""

    def __init__(self, kernel, root, info):
        self.kernel = kernel
        self.root = root
        self.info = info
        self.release = info["release"]
        self.version = info["version"]
        self.vmlinuz = root / "boot" / f"vmlinuz-{self.release}"
        self.modules = root / "lib" / "modules" / self.release
        self._dep = None

    def check(self, path):
        """Fail unless a file of the tree is what was unpacked."""
        name = str(path.relative_to(self.root))
        expected = self.info["files"].get(name)
        if not path.is_file() or sha256_file(path) != expected:
            raise LabError(f"cached kernel {self.kernel.name} is damaged ({name}): run "
                           f"scripts/lab fetch {self.kernel.name}")

    def damaged(self):
        """The files of the tree that are missing or changed."""
        return [name for name, digest in self.info["files"].items()
                if not (self.root / name).is_file() or sha256_file(self.root / name) != digest]

    def _read_dep(self):
        self._dep = {}
        for line in (self.modules / "modules.dep").read_text().splitlines():
            path, _, needs = line.partition(":")
            self._dep[module_name(path)] = (path, [module_name(n) for n in needs.split()])

    def has_module(self, name):
        if self._dep is None:
            self._read_dep()
        return module_name(name) in self._dep

    def has_driver(self, name):
        """Whether the kernel has it, as a module or built in."""
        built_in = (self.modules / "modules.builtin").read_text().split()
        return self.has_module(name) or module_name(name) in map(module_name, built_in)

    def load_order(self, names):
        """Modules and what they need, in an order that loads; built-in ones are left out."""
        if self._dep is None:
            self._read_dep()
        order = []
        for name in map(module_name, names):
            if name not in self._dep:
                continue
            # modules.dep lists what must be loaded first last.
            for need in [*reversed(self._dep[name][1]), name]:
                if need not in order:
                    order.append(need)
        return order

    def read_module(self, name):
        """The contents of a module, unpacked."""
        if self._dep is None:
            self._read_dep()
        path = self.modules / self._dep[module_name(name)][0]
        self.check(path)
        data = path.read_bytes()
        return lzma.decompress(data) if path.suffix == ".xz" else data


def module_name(path):
    """kernel/drivers/vfio/pci/vfio-pci.ko.xz -> vfio_pci"""
    return re.sub(r"\.ko(\.\w+)?$", "", pathlib.PurePath(path).name).replace("-", "_")


def modinfo(data):
    """The .modinfo strings of a module as a dictionary (the last of each key)."""
    found = {}
    for key in (b"name", b"vermagic", b"depends"):
        match = re.search(rb"(?:^|\0)" + key + rb"=([^\0]*)\0", data)
        if match:
            found[key.decode()] = match.group(1).decode(errors="replace")
    return found


# --- packages -------------------------------------------------------------------------------

def _series(kernel, release):
    return re.match(rf"{re.escape(kernel.name)}[.-]", release) is not None


def _image_package(kernel):
    """The package of the kernel's newest image."""
    sources = kernel.packages
    package = sources.resolve(kernel.image, r"linux-image-\d\S+")
    release = package.removeprefix("linux-image-")
    if _series(kernel, release):
        return package
    if not kernel.suite:
        raise LabError(f"{kernel.image} is {release} here, not {kernel.name}: this machine's "
                       "apt sources are those of another Debian")
    # A suite moves on to the next kernel, and keeps the images before it for a while.
    flavour = release.lstrip("0123456789.")
    left = [name for name in sources.names(f"linux-image-{kernel.name}.")
            if re.fullmatch(rf"linux-image-[\d.]+{re.escape(flavour)}", name)]
    if not left:
        raise Unavailable(f"{kernel.suite} of this machine's mirror has moved on to kernel {release} "
                          f"and carries no {kernel.name} any more: the row {kernel.name} of KERNELS "
                          "in scripts/lab.d/kernels.py needs another name or suite")
    package = max(left, key=lambda name: [int(n) for n in re.findall(r"\d+", name)])
    say(f"ATTENTION: {kernel.suite} has moved on to kernel {release}; this is "
        f"{package.removeprefix('linux-image-')}, the newest {kernel.name} left there")
    return package


def _download(kernel, package, version, folder):
    """Download and unpack a package. Returns its checksum."""
    deb = kernel.packages.download(f"{package}={version}", folder)
    progress(f"unpacking {deb.name}")
    unpack(deb, folder / "root")
    return sha256_file(deb)


def unpack(deb, folder):
    run_tool([need_tool("dpkg-deb", "dpkg"), "-x", deb, folder], f"unpacking {deb.name}")


# --- the cache ------------------------------------------------------------------------------

def _current_file(kernel):
    return cache_dir("kernels", kernel.name) / "current.json"


def cached(kernel):
    """The tree in the cache, or None."""
    try:
        info = json.loads(_current_file(kernel).read_text())
    except (FileNotFoundError, ValueError):
        return None
    root = cache_dir("kernels", kernel.name) / info.get("folder", "?")
    if info.get("format") != FORMAT or not root.is_dir():
        return None
    return Tree(kernel, root, info)


def _unpack_image(kernel, package, version):
    parent = cache_dir("kernels", kernel.name)
    release = package.removeprefix("linux-image-")
    with scratch_dir(parent) as scratch:
        # Newer images are split: into the kernel, its modules, and what both have in common.
        parts = kernel.packages.depends(f"{package}={version}",
                                        rf"linux-(?:base|binary|modules)-{re.escape(release)}")
        digests = [_download(kernel, part, version, scratch) for part in (package, *parts)]
        digest = digests[0] if len(digests) == 1 else sha256_bytes(*digests)
        root = scratch / "root"
        _normalise(root, release)
        run_tool([need_tool("depmod", "kmod"), "-b", root, release], "depmod")
        files = _digests(root)
        folder = f"{release}_{sha256_bytes(version, digest)[:8]}"
        shutil.rmtree(parent / folder, ignore_errors=True)
        root.chmod(0o755)
        root.rename(parent / folder)
    info = {"format": FORMAT, "folder": folder, "package": package, "release": release,
            "version": version, "deb_sha256": digest, "files": files}
    write_atomic(_current_file(kernel), json.dumps(info, indent=1))
    return Tree(kernel, parent / folder, info)


def _normalise(root, release):
    """Bring a tree into one shape, wherever the packages put modules and image."""
    shutil.rmtree(root / "usr" / "share", ignore_errors=True)
    if (root / "usr" / "lib").is_dir():
        shutil.copytree(root / "usr" / "lib", root / "lib", symlinks=True, dirs_exist_ok=True,
                        copy_function=os.rename)
        shutil.rmtree(root / "usr")
    image = root / "lib" / "modules" / release / "vmlinuz"
    if image.is_file():
        (root / "boot").mkdir(exist_ok=True)
        image.rename(root / "boot" / f"vmlinuz-{release}")


def drop_old(kernel):
    """Remove the trees of versions that are no longer used."""
    tree = cached(kernel)
    for old in cache_dir("kernels", kernel.name).iterdir():
        if tree and old.is_dir() and not old.name.startswith((tree.root.name, ".")):
            shutil.rmtree(old, ignore_errors=True)


def fetch(kernel):
    """Bring the newest version of a kernel into the cache, and repair what is damaged."""
    with locked(f"kernel-{kernel.name}"):
        kernel.packages.update()
        package = _image_package(kernel)
        release = package.removeprefix("linux-image-")
        version = kernel.packages.candidate(package)
        tree = cached(kernel)
        if tree and (tree.release, tree.version) == (release, version) and not tree.damaged():
            _drop_damaged_sides(tree)
            return tree
        return _unpack_image(kernel, package, version)


def fetch_build(tree):
    """Also bring what modules and mutants are built from."""
    headers(tree)
    source(tree, [])


def _side_folder(tree, kind, package, fill):
    """A folder next to the kernel's tree, of packages of exactly its version; filled once."""
    folder = tree.root.parent / f"{tree.root.name}+{kind}"
    if folder.is_dir():
        return folder
    with locked(f"{kind}-{tree.kernel.name}"):
        if folder.is_dir():
            return folder
        version = _matching_version(tree, package)
        with scratch_dir(folder.parent) as scratch:
            root = scratch / "root"
            root.mkdir()
            fill(scratch, root, version)
            write_atomic(root / MANIFEST, json.dumps(_digests(root, skip="linux/"), indent=1))
            root.rename(folder)
    return folder


def _digests(root, skip=None):
    """The checksums of the files below a folder."""
    names = (p for p in sorted(root.rglob("*")) if p.is_file() and not p.is_symlink())
    names = ((str(p.relative_to(root)), p) for p in names)
    return {name: sha256_file(p) for name, p in names
            if not (skip and name.startswith(skip)) and name != MANIFEST}


def side_folders(tree):
    """What else is cached for a tree: kind -> folder."""
    return {kind: folder for kind in ("headers", "source")
            if (folder := tree.root.parent / f"{tree.root.name}+{kind}").is_dir()}


def _drop_damaged_sides(tree):
    for folder in side_folders(tree).values():
        try:
            expected = json.loads((folder / MANIFEST).read_text())
        except (OSError, ValueError):
            expected = None
        if expected is None or any(
                not (folder / name).is_file() or sha256_file(folder / name) != digest
                for name, digest in expected.items()):
            shutil.rmtree(folder)
        else:
            # What was extracted is not in the manifest; it comes back from the archive.
            shutil.rmtree(folder / "linux", ignore_errors=True)


def _matching_version(tree, package):
    """The version of a companion package that belongs to the tree, or an error."""
    sources = tree.kernel.packages
    versions = sources.versions(package)
    if tree.version in versions:
        return tree.version
    known = versions[0] if versions else "nothing"
    text = f"apt has {package} {known}, but the cached kernel is {tree.version}: "
    raise sources.error(text + sources.stale(tree.kernel.name))


def headers(tree):
    """The folder to give to make -C, unpacked from the packages of the kernel's own version."""
    main = f"linux-headers-{tree.release}"

    def fill(scratch, root, version):
        common, kbuild = (tree.kernel.packages.depends(f"{main}={version}", pattern)
                          for pattern in (r"linux-headers-\S+-common", r"linux-kbuild-\S+"))
        for package in [main, *common]:
            _download(tree.kernel, package, version, scratch)
        for package in kbuild:
            _download(tree.kernel, package, tree.kernel.packages.at_least(package, version),
                      scratch)
        for makefile in root.glob("usr/src/linux-headers-*/Makefile"):
            _relocate(makefile)
        hosttools.adapt(root, tree.kernel.packages)

    return _side_folder(tree, "headers", main, fill) / "usr" / "src" / main


def _relocate(makefile):
    """Make "include /usr/src/X/Makefile" relative to where the packages were unpacked."""
    here = "$(dir $(abspath $(lastword $(MAKEFILE_LIST))))../"
    text = makefile.read_text()
    changed = re.sub(r"^include /usr/src/", f"include {here}", text, flags=re.M)
    changed = re.sub(r"^KBUILD_OUTPUT *=/usr/src/", f"KBUILD_OUTPUT := {here}", changed, flags=re.M)
    if changed != text:
        makefile.write_text(changed)


def source(tree, folders):
    """The kernel's source with at least the named folders (whole subtrees)."""
    package = tree.kernel.source

    def fill(scratch, root, version):
        _download(tree.kernel, package, version, scratch)
        archives = list((root / "usr/src").glob("linux-source-*.tar.xz"))
        if len(archives) != 1:
            raise LabError(f"{package} does not contain one linux-source-*.tar.xz")
        archives[0].rename(root / "linux.tar.xz")
        shutil.rmtree(root / "usr")
        _extract(root, SOURCE_FOLDERS)

    root = _side_folder(tree, "source", package, fill)
    missing = [f for f in dict.fromkeys((*SOURCE_FOLDERS, *folders))
               if not (root / "linux" / f).is_dir()]
    if missing:
        with locked(f"source-{tree.kernel.name}"):
            _extract(root, missing)
    return root / "linux"


def link_source(tree):
    """Show the source to makefiles and trace headers that look for it next to the headers."""
    origin = side_folders(tree)["source"] / "linux"
    (common,) = headers(tree).parent.glob("linux-headers-*-common")
    for folder in SOURCE_FOLDERS:
        link = common / folder
        if not link.exists():
            link.parent.mkdir(parents=True, exist_ok=True)
            link.unlink(missing_ok=True)
            link.symlink_to(os.path.relpath(origin / folder, link.parent))


def _extract(root, folders):
    """Unpack folders of the source archive; one that it does not have is not an error here."""
    progress(f"unpacking kernel source: {', '.join(folders)}")
    with scratch_dir(root) as scratch:
        done = subprocess.run(["tar", "-xJf", root / "linux.tar.xz", "-C", scratch,
                               "--strip-components=1", "--wildcards",
                               *(f"linux-source-*/{folder}/*" for folder in folders)],
                              stdin=subprocess.DEVNULL, capture_output=True, text=True,
                              env={**os.environ, "LC_ALL": "C"}, check=False)
        bad = [line for line in done.stderr.splitlines()
               if "Not found in archive" not in line and "previous errors" not in line]
        if done.returncode != 0 and bad:
            raise LabError(f"cannot unpack the kernel's source ({bad[0]}): run scripts/lab fetch "
                           f"--build {root.parent.name}")
        for folder in folders:
            target = root / "linux" / folder
            if (scratch / folder).is_dir() and not target.exists():
                target.parent.mkdir(parents=True, exist_ok=True)
                (scratch / folder).rename(target)


def get(kernel):
    """The kernel from the cache; from the network only when it is not there."""
    tree = cached(kernel)
    if tree is None:
        with locked(f"kernel-get-{kernel.name}"):
            tree = cached(kernel) or fetch(kernel)
    tree.check(tree.vmlinuz)
    return tree
