"""Protobuf messages of untrusted files: read within bounds, through schemas of our own."""

from __future__ import annotations

import importlib
import os
import warnings
from functools import cache
from pathlib import Path
from typing import Any

from noria.core.errors import ExtraMissing, FormatError

MAX_BYTES = (1 << 31) - 1  # what a protobuf message can hold


def schema(name: str) -> Any:
    """The compiled schema `protos/NAME.proto`. Raises ExtraMissing without the protobuf runtime."""
    try:
        importlib.import_module("google.protobuf.message")
    except ImportError:
        raise ExtraMissing("protobuf", "convert", "converting models") from None
    return importlib.import_module(f"noria.convert.protos.{name}_pb2")


def read_message(message: Any, path: str | os.PathLike[str]) -> Any:
    """Fills `message` from a binary file and returns it.

    Raises FormatError for what is not such a file, OSError where it cannot be read.
    """
    file = Path(path)
    if (size := file.stat().st_size) > MAX_BYTES:
        raise FormatError(
            "a protobuf file has less than 2 GiB", where=str(file), got=f"{size:,} bytes"
        )
    return parse_message(message, file.read_bytes(), str(file))


def parse_message(message: Any, data: bytes, where: str) -> Any:
    """Fills `message` from bytes and returns it. Raises FormatError for what is not such a message.

    The runtime refuses lengths that lie and messages nested deeper than a hundred.
    """
    from google.protobuf.message import DecodeError

    try:
        message.ParseFromString(data)
    except (DecodeError, RecursionError, ValueError) as error:
        raise FormatError(
            f"not a {message.DESCRIPTOR.name} message",
            where=where,
            got=f"{len(data):,} bytes: {error}",
        ) from None
    _check_text(message, where)
    return message


def _check_text(message: Any, where: str) -> None:
    """Raises FormatError for a text that is no UTF-8: the runtime hands it out as bytes."""
    texts, inner = _fields(message.DESCRIPTOR)
    for name, many in texts:
        value = getattr(message, name)
        for text in value if many else (value,):
            if not isinstance(text, str):
                raise FormatError(
                    f"'{name}' of a {message.DESCRIPTOR.name} is no UTF-8",
                    where=where,
                    got=repr(bytes(text)[:40]),
                )
    for name, many in inner:
        if many:
            for part in getattr(message, name):
                _check_text(part, where)
        elif message.HasField(name):
            _check_text(getattr(message, name), where)


@cache
def _fields(descriptor: Any) -> tuple[list[tuple[str, bool]], list[tuple[str, bool]]]:
    """(fields of text, fields of messages), each with whether it is repeated."""
    texts = [f for f in descriptor.fields if f.type == f.TYPE_STRING]
    inner = [f for f in descriptor.fields if f.message_type is not None]
    return [(f.name, f.is_repeated) for f in texts], [(f.name, f.is_repeated) for f in inner]


def parse_text(message: Any, text: str, where: str) -> Any:
    """Fills `message` from protobuf's text form and returns it; unknown fields are left out.

    Raises FormatError, with line and column, for what is not such a text.
    """
    from google.protobuf import text_format

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of escapes that Python does not know
            text_format.Parse(text, message, allow_unknown_field=True)
    except (text_format.ParseError, RecursionError, ValueError) as error:
        raise FormatError(
            f"not the text of a {message.DESCRIPTOR.name}", where=where, got=str(error)
        ) from None
    return message
