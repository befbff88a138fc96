"""A first signal asks, a second one insists, and the old handlers come back."""

from __future__ import annotations

import os
import signal
import threading

import pytest

from noria.train.signals import StopAsked, StopSignals


@pytest.mark.parametrize("number", StopSignals.NUMBERS)
def test_a_first_signal_asks_and_a_second_one_insists(number: int) -> None:
    before = signal.getsignal(number)
    with StopSignals() as signals:
        signals.check()
        os.kill(os.getpid(), number)
        with pytest.raises(StopAsked):
            signals.check()
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), number)
            signal.sigtimedwait([], 1)  # a moment in which the handler runs
    assert signal.getsignal(number) is before


def test_in_another_thread_nothing_is_installed() -> None:
    before = signal.getsignal(signal.SIGINT)
    seen = []

    def body() -> None:
        with StopSignals() as signals:
            seen.append(signal.getsignal(signal.SIGINT) is before)
            signals.check()

    thread = threading.Thread(target=body)
    thread.start()
    thread.join()
    assert seen == [True]
