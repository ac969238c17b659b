"""Which file names may be in a kit: those that every system can hold, shows as they are and keeps apart."""

from __future__ import annotations

import unicodedata
from pathlib import PurePosixPath

MAX_NAME_BYTES = 200
MAX_PATH_CHARACTERS = 400
# Windows opens devices under these names, with or without an ending.
_DEVICES = {"con", "prn", "aux", "nul", "conin$", "conout$"}
_DEVICES |= {f"{kind}{number}" for kind in ("com", "lpt") for number in "0123456789\u00b9\u00b2\u00b3"}
_FORBIDDEN = frozenset('<>:"|?*\\/')
# What a kit is made of; everything else is a program, a program's own file or a thing to unpack.
KNOWN_SUFFIXES = frozenset(
    {
        ".json",
        ".safetensors",
        ".txt",
        ".md",
        ".png",
        ".jpg",
        ".jpeg",
        ".webp",
        ".csv",
        ".toml",
        ".yaml",
        ".yml",
    }
    | {".sig", ".info", ".license"}
)
# What file managers leave behind; it says nothing and is not taken along.
_JUNK = frozenset(
    {".ds_store", "thumbs.db", "desktop.ini", "__macosx", ".git", ".gitattributes", ".gitignore"}
)


def name_problem(name: str) -> str:
    """Return why one part of a path may not be in a kit, "" when it may.

    Refused: empty, `.`, `..`, control and invisible direction marks, what Windows cannot hold, a dot or space
    at the end, device names, names that no Unicode text can hold and names of more than 200 bytes.
    """
    if name in ("", ".", ".."):
        return "climbs out of the folder" if name == ".." else "is no name"
    try:
        size = len(name.encode("utf-8"))
    except UnicodeEncodeError:
        return "is no text"
    if size > MAX_NAME_BYTES:
        return f"is longer than {MAX_NAME_BYTES} bytes"
    # Cc: control, Cf: invisible marks such as the one that turns the order of letters, Zl/Zp: line ends
    if any(unicodedata.category(letter) in ("Cc", "Cf", "Cs", "Co", "Zl", "Zp") for letter in name):
        return "holds control characters or invisible marks"
    if _FORBIDDEN.intersection(name):
        return "holds a character that not every system allows"
    if name[-1] in ". " or name[0] == " ":
        return "begins or ends with a space or ends with a dot"
    if name.split(".", 1)[0].rstrip(" ").casefold() in _DEVICES:
        return "is the name of a device on Windows"
    return ""


def path_problem(path: str) -> str:
    """Return why a relative path with forward slashes may not be in a kit, "" when it may."""
    if len(path) > MAX_PATH_CHARACTERS:
        return f"is longer than {MAX_PATH_CHARACTERS} characters"
    if path.startswith("/"):
        return "is absolute"
    if "\\" in path:
        return "holds a backslash"
    if path[1:2] == ":":
        return "names a drive"
    return next((problem for part in path.split("/") if (problem := name_problem(part))), "")


def kind_problem(path: str) -> str:
    """Return why a file of this ending does not belong in a kit, "" when it does."""
    name = PurePosixPath(path).name.casefold()
    suffix = PurePosixPath(name).suffix
    if suffix in KNOWN_SUFFIXES or name in ("license", "licence", "readme"):
        return ""
    return f"a {suffix or 'nameless kind of'} file has no place in a kit"


def folded(path: str) -> str:
    """Return what a path becomes where neither case nor the way letters are composed counts."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", path).casefold())


def is_junk(path: str) -> bool:
    """Whether a path is what a file manager left behind, such as `.DS_Store` or `__MACOSX/...`."""
    parts = path.casefold().split("/")
    return not _JUNK.isdisjoint(parts) or parts[-1].startswith("._")
