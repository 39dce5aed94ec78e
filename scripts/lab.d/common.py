"""What every part of the lab shares: where things lie, errors, messages, locks, hashes."""

import contextlib
import fcntl
import hashlib
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile

EXIT_UNAVAILABLE = 123  # no mirror has the kernel, or none can be reached: nothing is broken
EXIT_TIMEOUT = 124      # the guest did not come up or COMMAND did not end in time
EXIT_LAB = 125          # anything else that keeps the lab from doing what was asked

HERE = pathlib.Path(__file__).resolve().parent
TOP = HERE.parent.parent
CACHE = TOP / ".lab"

verbose = False


class LabError(Exception):
    """The lab itself could not do what was asked. The text names the fix."""

    code = EXIT_LAB


class Unavailable(LabError):
    """What was asked for is not to be had here and now, though nothing is wrong."""

    code = EXIT_UNAVAILABLE


def say(text):
    """A message that the caller must see."""
    print(f"lab: {text}", file=sys.stderr, flush=True)


def progress(text):
    """A message for somebody who watches."""
    if verbose or sys.stderr.isatty():
        say(text)


def cache_dir(*parts):
    """A folder of the cache, made when it is missing. The cache hides itself from git."""
    if not CACHE.is_dir():
        CACHE.mkdir(parents=True, exist_ok=True)
    ignore = CACHE / ".gitignore"
    if not ignore.exists():
        ignore.write_text("*\n")
    path = CACHE.joinpath(*parts)
    path.mkdir(parents=True, exist_ok=True)
    return path


@contextlib.contextmanager
def locked(name):
    """One process at a time may change the part of the cache called name."""
    path = cache_dir("locks") / name
    with open(path, "w") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            progress(f"waiting for another lab that prepares {name}")
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield


@contextlib.contextmanager
def scratch_dir(parent):
    """A private folder next to where its contents will end up, gone afterwards."""
    path = pathlib.Path(tempfile.mkdtemp(prefix=".tmp-", dir=parent))
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


def write_atomic(path, data):
    """Write a file so that a reader sees either the old contents or the new."""
    handle, name = tempfile.mkstemp(prefix=".tmp-", dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as out:
            out.write(data if isinstance(data, bytes) else data.encode())
        os.chmod(name, 0o644)
        os.rename(name, path)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(name)
        raise


def sha256_bytes(*chunks):
    digest = hashlib.sha256()
    for chunk in chunks:
        digest.update(chunk if isinstance(chunk, bytes) else str(chunk).encode())
        digest.update(b"\0")
    return digest.hexdigest()


def sha256_file(path):
    digest = hashlib.sha256()
    with open(path, "rb") as handle:
        while block := handle.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def need_tool(name, package):
    """The path of a program, or an error that names the package."""
    path = shutil.which(name)
    if not path:
        for folder in ("/usr/sbin", "/sbin"):
            if os.access(f"{folder}/{name}", os.X_OK):
                return f"{folder}/{name}"
        raise LabError(f"{name} is missing: run scripts/deps as root (package {package})")
    return path


def run_tool(argv, what, **options):
    """Run a helper program; its output is shown only when it fails."""
    done = subprocess.run(
        [str(a) for a in argv], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
        stderr=subprocess.PIPE, **options)
    if done.returncode != 0:
        tail = (done.stderr or done.stdout).decode(errors="replace").strip().splitlines()
        for line in tail[-20:]:
            print(f"  {line}", file=sys.stderr)
        raise LabError(f"{what} failed ({pathlib.Path(str(argv[0])).name} ended with "
                       f"{done.returncode})")
    return done.stdout
