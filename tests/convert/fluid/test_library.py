"""The families of handlers are all registered."""

from pathlib import Path

from noria.convert.fluid import handlers, library
from noria.convert.fluid.handlers import fluid_op


def test_every_file_with_handlers_is_imported() -> None:
    folder = Path(handlers.__file__).parent
    files = {p.stem for p in folder.glob("*.py") if "\n@fluid_op(" in p.read_text()}
    listed = Path(library.__file__).read_text()
    assert files
    for name in files:
        assert f"import noria.convert.fluid.{name}\n" in listed


def test_operators_are_registered() -> None:
    assert {"elementwise_add", "sgd"} <= set(fluid_op.names())
