"""One training step of the demo: what a user waits for at the start."""

from noria.data.reader import Reader
from noria.runtime.executor import Executor
from noria.zoo.recipes import recipe


def main() -> None:
    chosen = recipe("digits")
    reader: Reader
    reader, _ = chosen.readers(chosen.batch_size, 0, None)
    executor = Executor(chosen.program(chosen.epochs, len(reader)))
    loss = executor.run(next(iter(reader)), ["loss"])["loss"]
    assert loss > 0


if __name__ == "__main__":
    main()
