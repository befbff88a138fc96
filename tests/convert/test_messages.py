"""Messages of untrusted files."""

from pathlib import Path

import pytest
from google.protobuf.descriptor_pb2 import DescriptorProto, FileDescriptorProto

from noria.convert.messages import parse_message, parse_text, read_message
from noria.core.errors import FormatError


def test_a_message_is_read_from_a_file(tmp_path: Path) -> None:
    (tmp_path / "m").write_bytes(FileDescriptorProto(name="x").SerializeToString())
    assert read_message(FileDescriptorProto(), tmp_path / "m").name == "x"


@pytest.mark.parametrize("data", [b"\xff" * 9, b"\x0a\xff\xff\xff\x07abc"], ids=["noise", "lying"])
def test_bytes_that_are_no_message_are_refused(data: bytes) -> None:
    with pytest.raises(FormatError, match="not a FileDescriptorProto"):
        parse_message(FileDescriptorProto(), data, "here")


def test_a_text_that_is_no_utf8_is_refused_wherever_it_stands() -> None:
    inner = b"\x0a\x02\xc3\x28"  # the name of a message type
    for data in (inner, b"\x22" + bytes([len(inner)]) + inner):
        with pytest.raises(FormatError, match="no UTF-8"):
            parse_message(FileDescriptorProto(), data, "here")


def test_deep_nesting_is_refused() -> None:
    data = b""
    for _ in range(3000):
        data = b"\x1a" + _varint(len(data)) + data
    with pytest.raises(FormatError):
        parse_message(DescriptorProto(), data, "here")


def test_text_is_read_and_unknown_fields_are_left() -> None:
    assert parse_text(FileDescriptorProto(), 'name: "x" colour: "red"', "here").name == "x"
    with pytest.raises(FormatError, match="here"):
        parse_text(FileDescriptorProto(), 'name: "x', "here")


def _varint(n: int) -> bytes:
    out = b""
    while n > 127:
        out += bytes([n & 127 | 128])
        n >>= 7
    return out + bytes([n])
