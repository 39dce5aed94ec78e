"""The little that the lab must know of kernel images and ELF files."""

import lzma
import struct
import subprocess
import zlib

from common import LabError, need_tool


def _unzstd(data):
    # The kernel's build appends the unpacked size, 4 bytes, to the compressed stream.
    return _filter(["zstd", "-dcq"], "zstd", data[:-4])


def _unlz4(data):
    return _filter(["lz4", "-dcq"], "lz4", data[:-4])


def _filter(argv, package, data):
    argv = [need_tool(argv[0], package), *argv[1:]]
    done = subprocess.run(argv, input=data, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                          check=False)
    if not done.stdout:
        raise LabError(f"{argv[0]} cannot unpack the kernel image: "
                       f"{done.stderr.decode(errors='replace').strip()}")
    return done.stdout


PAYLOADS = (
    (b"\xfd7zXZ\0", lambda data: lzma.LZMADecompressor().decompress(data)),
    (b"\x1f\x8b", lambda data: zlib.decompressobj(31).decompress(data)),
    (b"\x28\xb5\x2f\xfd", _unzstd),
    (b"\x02\x21\x4c\x18", _unlz4),
    (b"\x5d\0\0", lambda data: lzma.LZMADecompressor(lzma.FORMAT_ALONE).decompress(data)),
    (b"\x7fELF", bytes),
)


def vmlinux(bzimage):
    """The ELF kernel inside an x86 bzImage (boot protocol 2.08 or newer)."""
    if bzimage[0x202:0x206] != b"HdrS":
        raise LabError("the kernel image is not a bzImage")
    setup = (bzimage[0x1f1] or 4) + 1
    offset, length = struct.unpack_from("<II", bzimage, 0x248)
    start = setup * 512 + offset
    payload = bzimage[start:start + length]
    for magic, unpack in PAYLOADS:
        if payload.startswith(magic):
            return unpack(payload)
    raise LabError("the kernel image is packed in a way that the lab does not know")


def sections(data):
    """The sections of a 64-bit little-endian ELF file: name -> (offset, size)."""
    if data[:6] != b"\x7fELF\x02\x01":
        raise LabError("not a 64-bit little-endian ELF file")
    (table,) = struct.unpack_from("<Q", data, 0x28)
    size, count, names = struct.unpack_from("<HHH", data, 0x3a)
    rows = [struct.unpack_from("<IIQQQQ", data, table + n * size) for n in range(count)]
    if not rows:
        return {}
    strings = rows[names][4]
    found = {}
    for name, _, _, _, offset, length in rows:
        end = data.index(b"\0", strings + name)
        found[data[strings + name:end].decode()] = (offset, length)
    return found


def section(data, name):
    """The contents of a section, or None."""
    row = sections(data).get(name)
    return data[row[0]:row[0] + row[1]] if row else None
