"""The families of handlers."""

from pathlib import Path

from noria.convert.caffe2 import library
from noria.convert.caffe2.handlers import caffe2_op


def test_every_family_file_is_registered() -> None:
    folder = Path(library.__file__).parent
    files = {p.stem for p in folder.glob("*.py") if "@caffe2_op(" in p.read_text("utf-8")}
    assert {m.__name__.rsplit(".", 1)[1] for m in library.FAMILIES} == files - {"handlers"}
    assert len(list(caffe2_op.names())) > 100
