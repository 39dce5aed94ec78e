"""What is in the cache, and what this machine can run."""

import json
import re
import shutil
import subprocess

import kernels
import vm
from common import CACHE, TOP, cache_dir


def _size(path):
    if path.is_file():
        return path.stat().st_size
    return sum(p.lstat().st_size for p in path.rglob("*") if p.is_file() and not p.is_symlink())


def _kernel(kernel, verify):
    tree = kernels.cached(kernel)
    row = {"name": kernel.name, "image": kernel.image, "cached": tree is not None}
    if tree:
        row |= {"release": tree.release, "version": tree.version, "bytes": _size(tree.root)}
        row |= {kind: {"bytes": _size(folder)}
                for kind, folder in kernels.side_folders(tree).items()}
        if verify:
            row["damaged"] = tree.damaged()
    built = cache_dir("modules", kernel.name)
    row["modules"] = sorted(str(p.relative_to(TOP)) for p in built.glob("*/*.ko"))
    return row


def _qemu():
    path = shutil.which("qemu-system-x86_64")
    if not path:
        return None
    text = subprocess.run([path, "--version"], capture_output=True, text=True, check=False).stdout
    match = re.search(r"version (\S+)", text)
    return match.group(1) if match else "unknown"


def gather(verify=False):
    return {
        "cache": str(CACHE),
        "bytes": _size(CACHE) if CACHE.is_dir() else 0,
        "qemu": _qemu(),
        "kernels": [_kernel(kernel, verify) for kernel in kernels.KERNELS.values()],
        "iommus": list(vm.IOMMUS),
        "runs": len([p for p in cache_dir("runs").iterdir() if p.is_dir()]),
    }


def _mib(count):
    return f"{count / (1 << 20):.0f} MiB"


def _text(state):
    yield f"cache    {state['cache']}, {_mib(state['bytes'])}, {state['runs']} runs kept"
    yield f"qemu     {state['qemu'] or 'missing: run scripts/deps as root'}"
    yield f"iommus   {', '.join(state['iommus'])}"
    for row in state["kernels"]:
        if not row["cached"]:
            yield f"kernel   {row['name']}: not cached; scripts/lab fetch {row['name']} brings it"
            continue
        more = [f"{kind} {_mib(row[kind]['bytes'])}" for kind in ("headers", "source")
                if kind in row]
        yield (f"kernel   {row['name']}: {row['release']} ({row['version']}), "
               + ", ".join([_mib(row["bytes"]), *more, f"{len(row['modules'])} modules built"]))
        for name in row.get("damaged", []):
            yield f"         damaged: {name}; scripts/lab fetch {row['name']} repairs it"


def show(as_json, verify):
    """Print the state. Returns whether everything looked at is intact."""
    state = gather(verify)
    print(json.dumps(state, indent=1) if as_json else "\n".join(_text(state)))
    return not any(row.get("damaged") for row in state["kernels"])
