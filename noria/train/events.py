"""Scalars, histograms and text as event files that TensorBoard shows.

A file is a sequence of records (TFRecord framing), each a protobuf `Event`:

    u64 length · u32 masked crc32c of the length · bytes · u32 masked crc32c of the bytes

The messages come from the `tensorboard` package. Its own writer is not used: importing it costs
130 ms more, and loads all of TensorFlow where that is installed.
"""

from __future__ import annotations

import operator
import os
import re
import socket
import struct
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Self

import numpy as np
from numpy.typing import ArrayLike

from noria.core.errors import ArgumentError, EngineError, ExtraMissing
from noria.core.files import storage_errors

_NAME = re.compile(r"events\.out\.tfevents\.(\d{10})\..*")


class EventWriter:
    """Appends one new event file to a directory, which is a run in TensorBoard.

        with EventWriter("runs/first") as events:
            events.scalar("train/loss", loss, step)

    directory: made if it is not there. A resumed run writes into the directory of the interrupted
        one: the new file sorts after those before it, the order in which TensorBoard reads them.
    resume_step: the first step the resumed run will write; what earlier files hold of this step
        and later (written after the checkpoint it resumes from) is then no longer shown.
    flush_seconds: the longest that written events wait in memory, while events are written.

    May be used from several threads. Raises ExtraMissing without tensorboard (extra `viz`), and
    EngineError if the disk is full or the writer is closed.
    """

    def __init__(
        self,
        directory: str | os.PathLike[str],
        *,
        resume_step: int | None = None,
        flush_seconds: float = 10.0,
    ) -> None:
        try:  # the narrowest modules that have the messages: 20 ms
            from tensorboard.compat.proto import event_pb2, summary_pb2
        except ImportError:
            raise ExtraMissing("tensorboard", "viz", "writing events for TensorBoard") from None
        self._events, self._summaries = event_pb2, summary_pb2
        self._lock = threading.Lock()
        self._flush_seconds = flush_seconds
        self.path, self._file = _create(Path(directory))
        self._flushed = time.monotonic()
        self._put(file_version="brain.Event:2")
        if resume_step is not None:
            start = event_pb2.SessionLog(status=event_pb2.SessionLog.START)
            self._put(session_log=start, step=_step(resume_step))
        self.flush()

    def scalar(self, tag: str, value: ArrayLike, step: int) -> None:
        """One number, stored as float32. NaN and infinities are kept.

        Raises ArgumentError for an array of several numbers, an empty tag or a step that is not an
        integer >= 0.
        """
        try:
            number = float(np.asarray(value).item())
        except (TypeError, ValueError):
            raise ArgumentError(f"'{tag}' is not one number", got=repr(value)[:80]) from None
        self._summary(tag, step, simple_value=number)

    def histogram(self, tag: str, values: ArrayLike, step: int, *, bins: int = 30) -> None:
        """The distribution of real numbers of any shape, in `bins` buckets of equal width.

        NaN and infinite values are left out. Raises ArgumentError as `scalar` does.
        """
        try:
            numbers = np.asarray(values).astype(np.float64).ravel()
        except (TypeError, ValueError):
            raise ArgumentError(f"'{tag}' is not numeric", got=repr(values)[:80]) from None
        self._summary(
            tag, step, histo=self._summaries.HistogramProto(**_distribution(numbers, bins))
        )

    def text(self, tag: str, text: str, step: int) -> None:
        """A text, shown as Markdown. Raises ArgumentError as `scalar` does."""
        from tensorboard.compat.proto import tensor_pb2, types_pb2

        plugin = self._summaries.SummaryMetadata.PluginData(plugin_name="text")
        metadata = self._summaries.SummaryMetadata(
            plugin_data=plugin, data_class=self._summaries.DATA_CLASS_TENSOR
        )
        content = [text.encode("utf-8", "replace")]
        tensor = tensor_pb2.TensorProto(dtype=types_pb2.DT_STRING, string_val=content)
        tensor.tensor_shape.SetInParent()  # a scalar
        self._summary(tag, step, tensor=tensor, metadata=metadata)

    def flush(self) -> None:
        """Hands everything written so far to the operating system, where TensorBoard sees it."""
        with self._writing() as file:
            file.flush()
            self._flushed = time.monotonic()

    def close(self) -> None:
        """Flushes and closes; closing again does nothing."""
        with self._lock, storage_errors(self.path):
            self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _summary(self, tag: str, step: int, **value: Any) -> None:
        if not isinstance(tag, str) or not tag:
            raise ArgumentError("a tag must be a text that is not empty", got=repr(tag))
        values = [self._summaries.Summary.Value(tag=tag, **value)]
        self._put(summary=self._summaries.Summary(value=values), step=_step(step))

    def _put(self, **content: Any) -> None:
        event = self._events.Event(wall_time=time.time(), **content).SerializeToString()
        size = struct.pack("<Q", len(event))
        record = size + _masked_crc(size) + event + _masked_crc(event)
        with self._writing() as file:
            file.write(record)
        if time.monotonic() - self._flushed >= self._flush_seconds:
            self.flush()

    @contextmanager
    def _writing(self) -> Iterator[BinaryIO]:
        with self._lock, storage_errors(self.path):
            if self._file.closed:
                raise EngineError("the event writer is closed", where=str(self.path))
            yield self._file


def _create(directory: Path) -> tuple[Path, BinaryIO]:
    """A new file whose name sorts after all event files there, also within the same second."""
    if directory.exists() and not directory.is_dir():
        raise ArgumentError("not a directory to write events into", where=str(directory))
    with storage_errors(directory / "events"):
        directory.mkdir(parents=True, exist_ok=True)
        stamps = [int(m[1]) for name in os.listdir(directory) if (m := _NAME.fullmatch(name))]
        stamp = max([int(time.time()), *(s + 1 for s in stamps)])
        while True:
            path = (
                directory / f"events.out.tfevents.{stamp:010}.{socket.gethostname()}.{os.getpid()}"
            )
            try:
                return path, open(path, "xb")
            except FileExistsError:
                stamp += 1


def _step(step: int) -> int:
    try:
        number = operator.index(step)
    except TypeError:
        number = -1
    if not 0 <= number < 2**63:
        raise ArgumentError("a step must be an integer >= 0", got=repr(step))
    return number


def _distribution(numbers: np.ndarray, bins: int) -> dict[str, Any]:
    """The fields of a HistogramProto: right edges and counts of the buckets, and the moments."""
    if bins < 1:
        raise ArgumentError("a histogram needs at least one bin", got=str(bins))
    largest = float(np.finfo(np.float32).max)  # readers turn the edges into float32
    kept = np.clip(numbers[np.isfinite(numbers)], -largest, largest)
    if not kept.size:
        return {"min": 0, "max": 0, "num": 0, "bucket_limit": [0], "bucket": [0]}
    low, high = float(kept.min()), float(kept.max())
    try:
        counts, edges = np.histogram(kept, bins, (low, high))
        limits = edges[1:]
    except ValueError:  # too narrow a range to be divided
        counts, limits = np.array([kept.size]), np.array([high])
    return {
        "min": low,
        "max": high,
        "num": kept.size,
        "sum": float(kept.sum()),
        "sum_squares": float(np.square(kept).sum()),
        "bucket_limit": limits.tolist(),
        "bucket": counts.tolist(),
    }


def _crc_table() -> list[int]:
    table = []
    for byte in range(256):
        for _ in range(8):
            byte = byte >> 1 ^ (0x82F63B78 if byte & 1 else 0)  # Castagnoli, reflected
        table.append(byte)
    return table


_CRC = _crc_table()


def _crc32c(data: bytes) -> int:
    """CRC-32C (RFC 3720, appendix B.4)."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc = _CRC[(crc ^ byte) & 255] ^ crc >> 8
    return crc ^ 0xFFFFFFFF


def _masked_crc(data: bytes) -> bytes:
    """Rotated and shifted, so that the sum of data holding sums is not degenerate."""
    crc = _crc32c(data)
    return struct.pack("<I", ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF)
