"""Reads .npz files of other tools, whose dicts are pickled, without ever running what a pickle asks for.

The instructions of the pickle are walked one by one. What they may build is listed here: dicts, lists,
tuples, text, numbers, and numpy arrays and scalars of these. Any other name in them is refused before
anything happens, so a file can carry names and nothing else.
"""

from __future__ import annotations

import io
import pickletools
import zipfile
import zlib
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from talent_factory.core.errors import FileError

_MAX_STEPS = 50_000_000
_REMEDY = "make it anew: talent lipsync metadata --mode scan --input DATASET --output metadata.npz"
_MODULES = ("numpy.core.multiarray", "numpy._core.multiarray")
_CODECS = ("latin1", "latin-1", "utf-8", "utf8", "ascii")
_ALLOWED = {
    **{f"{module} _reconstruct": "array" for module in _MODULES},
    **{f"{module} scalar": "scalar" for module in _MODULES},
    **{f"{module} _frombuffer": "frombuffer" for module in ("numpy.core.numeric", "numpy._core.numeric")},
    "numpy ndarray": "ndarray",
    "numpy dtype": "dtype",
    "_codecs encode": "encode",
}


class _Token:
    """An allowed name, or something made with one that is not finished before its state comes."""

    def __init__(self, kind: str, value: Any = None) -> None:
        self.kind, self.value = kind, value


class _Refused(Exception):
    """The pickle asks for something that metadata does not need."""


def read_members(data: bytes, *, source: str, limit: int) -> dict[str, Any]:
    """The arrays of an .npz by name: numpy arrays, and what pickled object arrays hold as plain lists.

    Raises:
        FileError: no .npz, damaged, more than `limit` bytes when unpacked, or a payload inside.
    """
    members: dict[str, Any] = {}
    room = limit
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            for info in archive.infolist()[:64]:
                with archive.open(info) as stream:
                    raw = stream.read(room + 1)
                room -= len(raw)
                if room < 0:
                    raise FileError(f"{source} unpacks to more than {limit >> 20} MiB", remedy=_REMEDY)
                members[info.filename.removesuffix(".npy")] = _member(raw, source)
    except (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError, OSError, ValueError) as error:
        raise FileError(f"{source} is no whole .npz file ({error})", remedy=_REMEDY) from None
    return members


def folder_data_of(members: Mapping[str, Any], *, source: str, limit: int) -> list[Any]:
    """The `folder_data` of a legacy file as a list of plain dicts with at most `limit` names in all."""
    found = members.get("folder_data")
    if isinstance(found, np.ndarray):
        found = found.tolist()
    while isinstance(found, list) and len(found) == 1 and isinstance(found[0], list):
        found = found[0]
    if isinstance(found, dict):
        found = [found]
    if not isinstance(found, list):
        raise FileError(f"{source} holds no folder_data", remedy=_REMEDY)
    room, plain = limit, []
    for item in found:
        if not isinstance(item, dict):
            raise FileError(f"{source}: folder_data holds something else than dicts", remedy=_REMEDY)
        folder = {str(key): _as_plain(value) for key, value in item.items()}
        names = folder.get("image_names")
        # one list may be referred to a million times: count before anything is copied
        room -= len(names) if isinstance(names, list) else 1
        if room < 0:
            raise FileError(f"{source} names more than {limit} frames", remedy=_REMEDY)
        plain.append(folder)
    return plain


def _member(raw: bytes, source: str) -> Any:
    """One .npy file as an array, or as plain lists where it holds objects."""
    stream = io.BytesIO(raw)
    try:
        version = np.lib.format.read_magic(stream)
        read = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
        shape, _, dtype = read[version](stream)
    except (ValueError, KeyError) as error:
        raise FileError(f"{source} holds something that is no array ({error})", remedy=_REMEDY) from None
    if not dtype.hasobject:
        try:
            # the count of numbers is held to the bytes that are there before anything is made
            return np.frombuffer(raw, dtype, int(np.prod(shape, dtype=np.int64)), stream.tell()).reshape(
                shape
            )
        except ValueError as error:
            raise FileError(f"{source} holds a cut array ({error})", remedy=_REMEDY) from None
    try:
        return _array(_read(raw[stream.tell() :]))
    except _Refused as refused:
        raise FileError(
            f"{source} is refused: its pickle asks for {refused}; nothing of it was run", remedy=_REMEDY
        ) from None
    except (ValueError, IndexError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise FileError(f"{source} holds a damaged pickle ({error})", remedy=_REMEDY) from None


def _read(data: bytes) -> Any:
    """What a pickle describes, made of plain values and tokens alone."""
    machine = _Machine()
    for number, (opcode, argument, _) in enumerate(pickletools.genops(data)):
        if number > _MAX_STEPS:
            raise _Refused("more than any metadata needs")
        if opcode.name == "STOP":
            return machine.stack[-1]
        machine.step(opcode.name, argument)
    raise ValueError("it has no end")


class _Machine:
    """The stack, the marks and the memory that the instructions of a pickle work on."""

    def __init__(self) -> None:
        self.stack: list[Any] = []
        self.marks: list[int] = []
        self.memory: dict[int, Any] = {}

    def step(self, name: str, argument: Any) -> None:
        """Carry out one instruction; _Refused for those that would call or import anything else."""
        if name in ("PROTO", "FRAME"):
            return
        if name in _LITERALS:
            self.stack.append(_LITERALS[name](argument))
        elif name in _MEMORY_PUTS:
            self.memory[len(self.memory) if argument is None else int(argument)] = self.stack[-1]
        elif name in ("GET", "BINGET", "LONG_BINGET"):
            self.stack.append(self.memory[int(argument)])
        elif name == "MARK":
            self.marks.append(len(self.stack))
        elif name in _ACTIONS:
            _ACTIONS[name](self)
        elif name == "GLOBAL":
            self.stack.append(_allowed(argument))
        else:
            raise _Refused(f"the instruction {name}")

    def to_mark(self) -> list[Any]:
        """Take everything off the stack down to the last mark."""
        place = self.marks.pop()
        items = self.stack[place:]
        del self.stack[place:]
        return items

    def named(self) -> None:
        """A module and a name on the stack become what they stand for, if it is allowed."""
        name, module = self.stack.pop(), self.stack.pop()
        self.stack.append(_allowed(f"{module} {name}"))

    def reduce(self) -> None:
        """A call: never made, but noted where it is one of numpy's own ways to describe an array."""
        arguments, function = self.stack.pop(), self.stack.pop()
        if not isinstance(function, _Token) or not isinstance(arguments, tuple):
            raise _Refused("a call of something unknown")
        self.stack.append(_called(function, arguments))

    def build(self) -> None:
        """The state of an array or of a dtype; nothing else has one."""
        state, made = self.stack.pop(), self.stack[-1]
        if not isinstance(made, _Token) or made.kind not in ("array!", "dtype!"):
            raise _Refused("the state of an object")
        if made.kind == "array!":
            _, shape, dtype, fortran, content = state
            made.value = _values(shape, dtype, content, fortran=bool(fortran))
        else:
            made.value = _dtype(made.value, state)

    def tuple_of(self, count: int) -> None:
        """The last `count` values as a tuple."""
        items = tuple(self.stack[len(self.stack) - count :])
        del self.stack[len(self.stack) - count :]
        self.stack.append(items)

    def append(self, items: list[Any]) -> None:
        """Values go to the end of the list below them."""
        if not isinstance(self.stack[-1], list):
            raise _Refused("an append to something that is no list")
        self.stack[-1].extend(items)

    def set_items(self, items: list[Any]) -> None:
        """Keys and values go into the dict below them."""
        if not isinstance(self.stack[-1], dict):
            raise _Refused("an item of something that is no dict")
        self.stack[-1].update(zip(map(_key, items[::2]), items[1::2], strict=True))

    def pair(self) -> list[Any]:
        """The two values on top."""
        value, key = self.stack.pop(), self.stack.pop()
        return [key, value]


def _same(argument: Any) -> Any:
    return argument


_LITERALS: dict[str, Callable[[Any], Any]] = {
    **dict.fromkeys(("INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4"), _same),
    **dict.fromkeys(("FLOAT", "BINFLOAT", "BINBYTES", "SHORT_BINBYTES", "BINBYTES8"), _same),
    **dict.fromkeys(("UNICODE", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8"), _same),
    **dict.fromkeys(("STRING", "BINSTRING", "SHORT_BINSTRING"), _same),
    "NONE": lambda _: None,
    "NEWTRUE": lambda _: True,
    "NEWFALSE": lambda _: False,
    "EMPTY_LIST": lambda _: [],
    "EMPTY_DICT": lambda _: {},
    "EMPTY_TUPLE": lambda _: (),
}
_MEMORY_PUTS = ("PUT", "BINPUT", "LONG_BINPUT", "MEMOIZE")
_ACTIONS: dict[str, Callable[[_Machine], None]] = {
    "STACK_GLOBAL": _Machine.named,
    "REDUCE": _Machine.reduce,
    "BUILD": _Machine.build,
    "TUPLE": lambda machine: machine.stack.append(tuple(machine.to_mark())),
    "TUPLE1": lambda machine: machine.tuple_of(1),
    "TUPLE2": lambda machine: machine.tuple_of(2),
    "TUPLE3": lambda machine: machine.tuple_of(3),
    "LIST": lambda machine: machine.stack.append(machine.to_mark()),
    "APPEND": lambda machine: machine.append([machine.stack.pop()]),
    "APPENDS": lambda machine: machine.append(machine.to_mark()),
    "SETITEM": lambda machine: machine.set_items(machine.pair()),
    "SETITEMS": lambda machine: machine.set_items(machine.to_mark()),
}


def _allowed(name: str) -> _Token:
    kind = _ALLOWED.get(name)
    if kind is None:
        raise _Refused(repr(name.replace(" ", "."))[:120])
    return _Token(kind)


def _called(function: _Token, arguments: tuple[Any, ...]) -> Any:
    """What a call would give, described; the state of arrays and dtypes follows later."""
    if function.kind == "array":
        return _Token("array!")
    if function.kind == "dtype" and isinstance(arguments[0], str):
        return _Token("dtype!", arguments[0])
    if function.kind == "scalar":
        dtype, content = arguments
        return _values((1,), dtype, content, fortran=False)[0]
    if function.kind == "frombuffer":
        content, dtype, shape, order = arguments
        return _Token("array!", _values(shape, dtype, content, fortran=order == "F"))
    if function.kind == "encode" and isinstance(arguments[0], str) and arguments[-1] in _CODECS:
        return arguments[0].encode(arguments[-1])
    raise _Refused(f"a call of {function.kind}")


def _dtype(name: str, state: tuple[Any, ...]) -> str:
    """The dtype with its byte order; only text, numbers and objects are known."""
    if not 1 <= len(name) <= 12 or name[0] not in "iufbUSO" or not (name[1:].isdecimal() or not name[1:]):
        raise _Refused(f"an array of {name[:20]!r}")
    order = state[1] if state[1] in ("<", ">") else ""
    return f"{order}{name}"


def _values(shape: Any, dtype: Any, content: Any, *, fortran: bool) -> list[Any]:
    """The values of an array in a flat list; of objects as they are, of numbers and text read from bytes."""
    kind = dtype.value if isinstance(dtype, _Token) and dtype.kind == "dtype!" else None
    if (
        not isinstance(kind, str)
        or not isinstance(shape, tuple)
        or not all(isinstance(n, int) for n in shape)
    ):
        raise _Refused("an array that is none")
    if fortran and len(shape) > 1:
        raise _Refused("an array of columns")
    if "O" in kind:
        if not isinstance(content, list):
            raise _Refused("an array of objects that is no list")
        return content
    if isinstance(content, str):
        content = content.encode("latin-1")
    if not isinstance(content, bytes):
        raise _Refused("an array without bytes")
    values: list[Any] = np.frombuffer(content, np.dtype(kind)).tolist()
    return values


def _array(found: Any) -> Any:
    """A finished array as its list; anything else as it is."""
    return found.value if isinstance(found, _Token) and found.kind == "array!" else found


def _as_plain(value: Any) -> Any:
    """A value of a folder's dict: lists of names, counts, text; bytes are text of the names' encoding."""
    found = _array(value)
    if isinstance(found, list | tuple):
        return [_text(_array(item)) for item in found]
    return _text(found)


def _text(value: Any) -> Any:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else value


def _key(value: Any) -> Any:
    if not isinstance(value, str | int | bytes):
        raise _Refused("a key that is no text")
    return _text(value)
