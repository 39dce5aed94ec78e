"""The initial RAM disk: busybox, the few modules that reach the root file system, VFIO, init.

The part that only depends on the kernel is cached; the part that belongs to one run (settings,
the command, modules put in place of the kernel's own) is a second archive behind it, whose files
replace those of the first.
"""

import pathlib

from common import HERE, LabError, cache_dir, locked, progress, sha256_bytes, write_atomic

BOOT_MODULES = ("virtio_pci", "virtio_console", "9pnet_virtio", "9p", "overlay")
IOMMU_MODULES = {"virtio": ("virtio_iommu",)}      # where the IOMMU's driver is a module
VFIO_MODULES = ("vfio", "vfio_iommu_type1", "vfio_pci")
APPLETS = ("sh", "mount", "umount", "mkdir", "insmod", "cat", "ln", "ip", "switch_root", "cp",
           "poweroff", "dmesg", "mkfifo", "kill", "sleep", "hostname", "usleep", "chmod", "stty",
           "setsid", "sync", "basename", "readlink", "rm")


class Cpio:
    """A writer of the "newc" archives that the kernel unpacks."""

    def __init__(self):
        self._parts = []
        self._ino = 1
        self._dirs = set()

    def _add(self, name, mode, data=b""):
        name_bytes = name.encode() + b"\0"
        header = b"070701" + b"".join(
            b"%08x" % value for value in (
                self._ino, mode, 0, 0, 1, 0, len(data), 0, 0, 0, 0, len(name_bytes), 0))
        self._ino += 1
        head = header + name_bytes
        self._parts += [head, bytes(-len(head) % 4), data, bytes(-len(data) % 4)]

    def folder(self, name):
        for parent in [*reversed(pathlib.PurePath(name).parents), pathlib.PurePath(name)]:
            text = str(parent)
            if text not in (".", "") and text not in self._dirs:
                self._dirs.add(text)
                self._add(text, 0o040755)

    def file(self, name, data, mode=0o644):
        self.folder(str(pathlib.PurePath(name).parent))
        self._add(name, 0o100000 | mode, data if isinstance(data, bytes) else data.encode())

    def link(self, name, target):
        self.folder(str(pathlib.PurePath(name).parent))
        self._add(name, 0o120777, target.encode())

    def finish(self):
        self._add("TRAILER!!!", 0)
        data = b"".join(self._parts)
        return data + bytes(-len(data) % 512)


def _busybox():
    for path in (pathlib.Path("/bin/busybox"), pathlib.Path("/usr/bin/busybox")):
        if path.is_file():
            data = path.read_bytes()
            if b"/ld-linux" in data[:4096]:
                break
            return data
    raise LabError("a static /bin/busybox is missing: run scripts/deps as root "
                   "(package busybox-static)")


def base(tree):
    """The archive for a kernel: its path, made when its inputs changed."""
    busybox = _busybox()
    init = (HERE / "init").read_bytes()
    stage2 = (HERE / "stage2").read_bytes()
    boot = tree.load_order(BOOT_MODULES)
    vfio = [m for m in tree.load_order(VFIO_MODULES) if m not in boot]
    lists = {"boot": boot, "vfio": vfio}
    lists |= {f"iommu-{name}": tree.load_order(names) for name, names in IOMMU_MODULES.items()}
    modules = {name: tree.read_module(name) for names in lists.values() for name in names}
    key = sha256_bytes(busybox, init, stage2, repr(lists), " ".join(APPLETS),
                       *modules.values())[:16]
    path = cache_dir("initramfs") / f"{tree.kernel.name}-{key}.cpio"
    if path.is_file():
        return path
    with locked(f"initramfs-{tree.kernel.name}"):
        if path.is_file():
            return path
        progress(f"making the initial RAM disk for {tree.kernel.name}")
        archive = Cpio()
        for folder in ("dev", "proc", "sys", "lower", "rw", "newroot", "lab", "modules"):
            archive.folder(folder)
        archive.file("bin/busybox", busybox, 0o755)
        for applet in APPLETS:
            archive.link(f"bin/{applet}", "busybox")
        archive.file("init", init, 0o755)
        archive.file("lab/stage2", stage2, 0o755)
        for name, data in modules.items():
            archive.file(f"modules/{name}.ko", data)
        for name, names in lists.items():
            archive.file(f"modules/{name}.list", "".join(f"{m}\n" for m in names))
        write_atomic(path, archive.finish())
        for old in path.parent.glob(f"{tree.kernel.name}-*.cpio"):
            if old != path:
                old.unlink(missing_ok=True)
    return path
