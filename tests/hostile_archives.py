"""Archives that climb, lie, collide or unfold beyond measure, each with the code that refuses it."""

from __future__ import annotations

import gzip
import io
import os
import random
import stat
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

GOOD: dict[str, bytes] = {"kit/talent.json": b"{}", "kit/base.txt": b"Base model: mini\n"}
NOISE = random.Random(1).randbytes(2000)
Make = Callable[[Path], Path]

BAD_NAMES: dict[str, str] = {
    "climbs": "../evil.txt",
    "climbs in the middle": "kit/../../evil.txt",
    "climbs at the end": "kit/..",
    "is absolute": "/etc/cron.d/evil.txt",
    "names a drive": "C:evil.txt",
    "names a drive and a root": "C:/evil.txt",
    "climbs by backslashes": "..\\..\\evil.txt",
    "names a server": "\\\\server\\share\\evil.txt",
    "names a server by slashes": "//server/share/evil.txt",
    "has an empty part": "kit//evil.txt",
    "has a part of one dot": "kit/./evil.txt",
    "ends with a dot": "kit/evil.txt.",
    "ends with a space": "kit/evil.txt ",
    "is a device": "kit/aux.txt",
    "is a device in a folder": "com1/talent.json",
    "is a device by a raised digit": "kit/com\u00b9.txt",
    "holds a line end": "kit/a\nb.txt",
    "holds an escape": "kit/\x1b[31m.txt",
    "turns the order of letters": "kit/\u202etxt.evil.txt",
    "is a stream of another": "kit/talent.json:evil.txt",
    "has wild cards": "kit/*.txt",
    "is longer than a path": "kit/" + "/".join(["long" * 20] * 6) + ".txt",
    "is longer than a name": "kit/" + "a" * 240 + ".txt",
}
BAD_KINDS: dict[str, tuple[str, str]] = {
    "a pickle": ("kit/model.ckpt", "pickle"),
    "a pickle in capitals": ("kit/MODEL.PT", "pickle"),
    "a binary of torch": ("kit/pytorch_lora_weights.bin", "pickle"),
    "an array with objects": ("kit/x.npy", "pickle"),
    "a zip inside": ("kit/more.zip", "archive"),
    "a tar inside": ("kit/more.tar.gz", "archive"),
    "a 7z inside": ("kit/more.7z", "archive"),
    "a rar inside": ("kit/more.rar", "archive"),
    "a program": ("kit/setup.exe", "kind"),
    "a script": ("kit/setup.sh", "kind"),
    "a page": ("kit/README.html", "kind"),
    "a module": ("kit/__init__.py", "kind"),
    "a nameless file": ("kit/payload", "kind"),
}


def zip_bytes(entries: dict[str, bytes], *, change: Callable[[zipfile.ZipInfo], Any] | None = None) -> bytes:
    """A deflated zip; `change` may alter what is said about each entry."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in entries.items():
            info = zipfile.ZipInfo("x")
            # ZipInfo itself would mend some of these names
            info.filename = info.orig_filename = name
            info.compress_type = zipfile.ZIP_DEFLATED
            if change is not None:
                change(info)
            archive.writestr(info, data)
    return stream.getvalue()


def tar_bytes(
    entries: dict[str, bytes],
    *,
    packed: bool = True,
    change: Callable[[tarfile.TarInfo], Any] | None = None,
    form: int = tarfile.PAX_FORMAT,
) -> bytes:
    """A tar, gzipped or not."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w", format=form) as archive:
        for name, data in entries.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            if change is not None:
                change(info)
            archive.addfile(info, io.BytesIO(data))
    return gzip.compress(stream.getvalue(), mtime=0) if packed else stream.getvalue()


def raw_tar(name: bytes, size: bytes, kind: bytes = b"0", data: bytes = b"") -> bytes:
    """A tar of one entry whose header fields are as given, with a right check sum."""
    header = bytearray(512)
    header[: len(name)] = name
    header[100:108], header[124 : 124 + len(size)] = b"0000644\0", size
    header[156:157], header[257:265], header[148:156] = kind, b"ustar\00000", b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    return bytes(header) + data + bytes(-len(data) % 512)


def zip_mode(kind: int) -> Callable[[zipfile.ZipInfo], None]:
    """Say of each entry that it is a link, a device or a pipe."""

    def change(info: zipfile.ZipInfo) -> None:
        info.create_system = 3
        info.external_attr = (kind | 0o644) << 16

    return change


def tar_kind(kind: bytes, target: str = "/etc/passwd") -> Callable[[tarfile.TarInfo], None]:
    """Say of each entry that it is of another kind."""

    def change(info: tarfile.TarInfo) -> None:
        info.type, info.linkname, info.size = kind, target, 0

    return change


def overlapping(files: int, size: int) -> bytes:
    """A zip whose entries all share one block of packed zeros, as Fifield's bombs do."""
    block = zlib.compress(bytes(size), 9)[2:-4]
    crc = zlib.crc32(bytes(size))
    facts = struct.pack("<HHHHHIIIHH", 20, 0, 8, 0, 33, crc, len(block), size, 5, 0)
    local = b"PK\x03\x04" + facts + b"0.txt" + block
    directory = b""
    for number in range(files):
        name = f"{number}.txt".encode()
        facts = struct.pack(
            "<HHHHHHIIIHHHHHII", 20, 20, 0, 8, 0, 33, crc, len(block), size, len(name), 0, 0, 0, 0, 0, 0
        )
        directory += b"PK\x01\x02" + facts + name
    end = struct.pack("<HHHHIIH", 0, 0, files, files, len(directory), len(local), 0)
    return local + directory + b"PK\x05\x06" + end


def patched(raw: bytes, old: bytes, new: bytes, count: int = -1) -> bytes:
    """Replace bytes that must be there."""
    assert old in raw
    return raw.replace(old, new, count)


def zeros_gz(size: int) -> bytes:
    """A gzipped tar of one file of zeros."""
    stream = io.BytesIO()
    with gzip.GzipFile(fileobj=stream, mode="wb", mtime=0) as packed:
        packed.write(raw_tar(b"kit/base.txt", b"%011o\0" % size))
        for _ in range(size >> 20):
            packed.write(bytes(1 << 20))
        packed.write(bytes(1024))
    return stream.getvalue()


def _many(count: int) -> dict[str, bytes]:
    return {f"kit/{number}.txt": b"" for number in range(count)}


def _encrypted(info: zipfile.ZipInfo) -> None:
    info.flag_bits |= 1


_ZIP, _TAR, _PLAIN = zip_bytes(GOOD), tar_bytes(GOOD), tar_bytes(GOOD, packed=False)
_END = _ZIP.index(b"PK\x05\x06")

# name -> file name, bytes, and the code that must refuse them
FILES: dict[str, tuple[str, bytes, str]] = {
    **{
        f"zip: a name that {why}": ("a.zip", zip_bytes({**GOOD, name: b"x"}), "name")
        for why, name in BAD_NAMES.items()
    },
    **{
        f"tar: a name that {why}": ("a.tar.gz", tar_bytes({**GOOD, name: b"x"}), "name")
        for why, name in BAD_NAMES.items()
        if why != "has a part of one dot"
    },
    **{
        f"zip: {why}": ("a.zip", zip_bytes({**GOOD, name: b"x"}), code)
        for why, (name, code) in BAD_KINDS.items()
    },
    **{
        f"tar: {why}": ("a.tgz", tar_bytes({**GOOD, name: b"x"}), code)
        for why, (name, code) in BAD_KINDS.items()
    },
    # what is no archive
    "nothing": ("a.zip", b"", "archive"),
    "text": ("a.zip", b"hello", "archive"),
    "noise": ("a.tar.gz", NOISE, "archive"),
    "a gzip of noise": ("a.tar.gz", gzip.compress(NOISE, mtime=0), "archive"),
    "a 7z by its bytes": ("a.zip", b"7z\xbc\xaf\x27\x1c" + NOISE, "archive"),
    "a rar by its bytes": ("a.zip", b"Rar!\x1a\x07\x01\x00" + NOISE, "archive"),
    "an xz by its bytes": ("a.tar", b"\xfd7zXZ\x00" + NOISE, "archive"),
    "a program with a zip behind it": ("a.zip", b"MZ" + bytes(100) + _ZIP, "archive"),
    "a picture with a zip behind it": ("a.zip", b"\x89PNG\r\n\x1a\n" + _ZIP, "archive"),
    "a zip without its directory": ("a.zip", _ZIP[: len(_ZIP) // 2], "archive"),
    "a zip without its last bytes": ("a.zip", _ZIP[:-10], "archive"),
    "a zip of nothing": ("a.zip", b"PK\x05\x06" + bytes(18), "archive"),
    "a zip without kits": ("a.zip", zip_bytes({"notes.txt": b"hello"}), "archive"),
    "a tar without kits": ("a.tar", tar_bytes({"notes.txt": b"hello"}, packed=False), "archive"),
    "half a tar.gz": ("a.tar.gz", tar_bytes({**GOOD, "kit/x.txt": NOISE})[:1500], "archive"),
    "half a tar": ("a.tar", tar_bytes({"kit/x.txt": NOISE}, packed=False)[:1500], "archive"),
    "a tar.gz and a second one": ("a.tar.gz", _TAR + _TAR, "archive"),
    "a tar.gz and a page": ("a.tar.gz", _TAR + b"<script>", "archive"),
    "a tar and a zip": ("a.tar", _PLAIN + _ZIP, "archive"),
    "a tar.gz with a spoiled check sum": ("a.tar.gz", _TAR[:-8] + b"\1\2\3\4" + _TAR[-4:], "archive"),
    # what an entry is
    "zip: a link": ("a.zip", zip_bytes(GOOD, change=zip_mode(stat.S_IFLNK)), "link"),
    "zip: a device": ("a.zip", zip_bytes(GOOD, change=zip_mode(stat.S_IFCHR)), "link"),
    "zip: a block device": ("a.zip", zip_bytes(GOOD, change=zip_mode(stat.S_IFBLK)), "link"),
    "zip: a pipe": ("a.zip", zip_bytes(GOOD, change=zip_mode(stat.S_IFIFO)), "link"),
    "zip: a socket": ("a.zip", zip_bytes(GOOD, change=zip_mode(stat.S_IFSOCK)), "link"),
    "zip: encrypted": (
        "a.zip",
        patched(_ZIP, b"PK\x01\x02\x14\x03\x14\x00\x00", b"PK\x01\x02\x14\x03\x14\x00\x01"),
        "archive",
    ),
    "tar: a link": ("a.tar.gz", tar_bytes(GOOD, change=tar_kind(tarfile.SYMTYPE)), "link"),
    "tar: a link that climbs": (
        "a.tar.gz",
        tar_bytes(GOOD, change=tar_kind(tarfile.SYMTYPE, "../..")),
        "link",
    ),
    "tar: a hard link": ("a.tar.gz", tar_bytes(GOOD, change=tar_kind(tarfile.LNKTYPE)), "link"),
    "tar: a device": ("a.tar.gz", tar_bytes(GOOD, change=tar_kind(tarfile.CHRTYPE)), "link"),
    "tar: a block device": ("a.tar.gz", tar_bytes(GOOD, change=tar_kind(tarfile.BLKTYPE)), "link"),
    "tar: a pipe": ("a.tar.gz", tar_bytes(GOOD, change=tar_kind(tarfile.FIFOTYPE)), "link"),
    "tar: a sparse file": ("a.tar", raw_tar(b"kit/base.txt", b"00000000010\0", b"S", bytes(8)), "link"),
    # which entries share a name
    "zip: one name twice": (
        "a.zip",
        patched(zip_bytes({"kit/a.txt": b"1", "kit/b.txt": b"2"}), b"kit/b.txt", b"kit/a.txt"),
        "name",
    ),
    "zip: names but for the case": ("a.zip", zip_bytes({"kit/a.txt": b"1", "kit/A.TXT": b"2"}), "name"),
    "zip: names but for the accents": (
        "a.zip",
        zip_bytes({"kit/\u00e9.txt": b"1", "kit/e\u0301.txt": b"2"}),
        "name",
    ),
    "zip: folders but for the case": ("a.zip", zip_bytes({"kit/a.txt": b"1", "KIT/b.txt": b"2"}), "name"),
    "zip: a file that is a folder": ("a.zip", zip_bytes({"kit.txt": b"1", "kit.txt/b.txt": b"2"}), "name"),
    "zip: a folder that is a file": ("a.zip", zip_bytes({"kit.txt/b.txt": b"2", "kit.txt": b"1"}), "name"),
    "zip: sharp s": ("a.zip", zip_bytes({"kit/stra\u00dfe.txt": b"1", "kit/STRASSE.txt": b"2"}), "name"),
    "tar: names but for the case": ("a.tar.gz", tar_bytes({"kit/a.txt": b"1", "kit/A.TXT": b"2"}), "name"),
    "tar: a file that is a folder": ("a.tar.gz", tar_bytes({"kit.txt": b"1", "kit.txt/b.txt": b"2"}), "name"),
    "zip: a zero byte in a name": (
        "a.zip",
        patched(zip_bytes({"kit/a_.txt": b"1"}), b"kit/a_.txt", b"kit/a\0.txt"),
        "name",
    ),
    # what unfolds
    "zip: 20 MB of zeros": ("a.zip", zip_bytes({"kit/base.txt": bytes(20 << 20)}), "archive-bomb"),
    "zip: three hundred entries of zeros": (
        "a.zip",
        zip_bytes({f"kit/{number}.txt": bytes(50_000) for number in range(300)}),
        "archive-bomb",
    ),
    "zip: entries that share their bytes": ("a.zip", overlapping(200, 1 << 20), "archive-bomb"),
    "zip: a directory of 100,000": (
        "a.zip",
        _ZIP[:4] + bytes(30) + overlapping(60_000, 10)[4:],
        "archive-bomb",
    ),
    "zip: 2,100 entries": ("a.zip", zip_bytes(_many(2100)), "too-many-files"),
    "zip: folders without end": (
        "a.zip",
        zip_bytes({"/".join("abcdefghijkl") + ".txt": b""}),
        "too-many-files",
    ),
    "tar: 20 MB of zeros": ("a.tar.gz", zeros_gz(20 << 20), "archive-bomb"),
    "tar: 2,100 entries": ("a.tar.gz", tar_bytes(_many(2100)), "too-many-files"),
    "tar: folders without end": (
        "a.tar.gz",
        tar_bytes({"/".join("abcdefghijkl") + ".txt": b""}),
        "too-many-files",
    ),
    "tar: a long name of a gigabyte": (
        "a.tar",
        raw_tar(b"././@LongLink", b"10000000000\0", b"L", b"x" * 600),
        "archive-bomb",
    ),
    "tar: a pax header of a gigabyte": (
        "a.tar",
        raw_tar(b"pax", b"10000000000\0", b"x", b"x" * 600),
        "archive-bomb",
    ),
    "tar: global headers without end": (
        "a.tar",
        raw_tar(b"pax", b"00000000016\0", b"g", b"14 comment=abc") * 3000,
        "archive-bomb",
    ),
    # what lies
    "zip: a spoiled check sum": (
        "a.zip",
        patched(_ZIP, struct.pack("<I", zlib.crc32(b"{}")), b"\1\2\3\4"),
        "archive",
    ),
    "zip: names that differ in the directory": (
        "a.zip",
        patched(_ZIP, b"kit/base.txt", b"kit/bose.txt", 1),
        "archive",
    ),
    "zip: packed bytes that are noise": (
        "a.zip",
        zip_bytes({"kit/base.txt": NOISE})[:200] + NOISE + _ZIP,
        "archive",
    ),
    "zip: an entry beyond the file": (
        "a.zip",
        patched(_ZIP, b"\0\0\0\0kit/talent.json", b"\xff\xff\xff\x7fkit/talent.json"),
        "archive",
    ),
    "zip: a directory beyond the file": (
        "a.zip",
        _ZIP[: _END + 16] + b"\xff\xff\xff\x7f" + _ZIP[_END + 20 :],
        "archive",
    ),
    "zip: a way of packing that is unknown": (
        "a.zip",
        patched(_ZIP, b"\x14\x00\x00\x00\x08\x00", b"\x14\x00\x00\x00\x63\x00"),
        "archive",
    ),
    "tar: a size below nothing": ("a.tar", raw_tar(b"kit/base.txt", b"\xff" * 12), "archive-bomb"),
    "tar: a size beyond all numbers": ("a.tar", raw_tar(b"kit/base.txt", b"\x80" + b"\xff" * 11), "archive"),
    "tar: a size of letters": ("a.tar", raw_tar(b"kit/base.txt", b"zzzzzzzzzzz\0"), "archive"),
    "tar: an entry that ends too early": (
        "a.tar",
        raw_tar(b"kit/base.txt", b"00000010000\0", b"0", b"x" * 700),
        "archive",
    ),
    "tar: a spoiled check sum": ("a.tar", b"\1" + _PLAIN[1:], "archive"),
}


def write(folder: Path, case: str) -> Path:
    """Write one of FILES into `folder`."""
    name, data, _ = FILES[case]
    path = folder / name
    path.write_bytes(data)
    return path


def linked_archive(folder: Path) -> Path:
    """An archive that is a link to another."""
    (folder / "real.zip").write_bytes(_ZIP)
    os.symlink(folder / "real.zip", folder / "a.zip")
    return folder / "a.zip"
