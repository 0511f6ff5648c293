"""Serialisation of messages between server and worker.

A message is a tuple of plain values, numpy arrays and our own frozen dataclasses. A dataclass is sent as its fields and
constructed again, so that it is validated and its arrays are read-only. No other objects are constructed: a worker
compromised by an untrusted file cannot run code in the server.
"""

from __future__ import annotations

import io
import pickle
from dataclasses import fields, is_dataclass
from types import MappingProxyType
from typing import Any

_OURS = __name__.split(".")[0]  # "engine" in the clone, "etude" where it is installed
_OF_NUMPY = ("_reconstruct", "_frombuffer", "ndarray", "dtype", "scalar")


class _Writer(pickle.Pickler):
    def reducer_override(self, obj: Any) -> Any:
        if isinstance(obj, MappingProxyType):
            return dict, (dict(obj),)
        if is_dataclass(obj) and not isinstance(obj, type):
            return type(obj), tuple(getattr(obj, f.name) for f in fields(obj))
        return NotImplemented


class _Reader(pickle.Unpickler):
    def __init__(self, data: bytes, packages: tuple[str, ...]) -> None:
        super().__init__(io.BytesIO(data))
        self._packages = packages

    def find_class(self, module: str, name: str) -> Any:
        package = module.split(".")[0]
        if (module, name) == ("builtins", "dict"):
            return dict
        if package in self._packages:
            found = super().find_class(module, name)
            if isinstance(found, type) and is_dataclass(found):
                return found
        if package == "numpy" and name in _OF_NUMPY:
            return super().find_class(module, name)
        raise ValueError(f"{module}.{name} does not travel between the server and its workers; send its fields")


def to_bytes(message: tuple) -> bytes:
    """A message as bytes."""
    out = io.BytesIO()
    _Writer(out, protocol=5).dump(message)
    return out.getvalue()


def from_bytes(data: bytes, packages: tuple[str, ...] = (_OURS,)) -> tuple:
    """The inverse of `to_bytes`, for data types of these packages. Raises ValueError for anything else, and the errors
    of the data types.
    """
    try:
        message = _Reader(data, packages).load()
    except (pickle.UnpicklingError, EOFError, AttributeError, ImportError, IndexError, TypeError) as error:
        raise ValueError(f"these bytes are no message: {error}") from error
    if not isinstance(message, tuple) or not message or not isinstance(message[0], str):
        raise ValueError("a message is a tuple that begins with its kind")
    return message
