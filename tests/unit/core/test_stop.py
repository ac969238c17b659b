"""The first signal asks, the second Ctrl-C interrupts, and the handlers come back."""

from __future__ import annotations

import signal
import threading

import pytest

from talent_factory.core.stop import StopSignal, graceful_stop


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_first_signal_asks(number: signal.Signals) -> None:
    before = signal.getsignal(number)
    with graceful_stop() as stop:
        assert not stop.requested
        signal.raise_signal(number)
        assert stop.requested
    assert signal.getsignal(number) is before


def test_second_interrupt_interrupts() -> None:
    with graceful_stop() as stop:
        signal.raise_signal(signal.SIGTERM)
        signal.raise_signal(signal.SIGTERM)
        assert stop.requested
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)


def test_other_threads_get_a_signal_without_handlers() -> None:
    before = signal.getsignal(signal.SIGTERM)
    seen: list[StopSignal] = []

    def work() -> None:
        with graceful_stop() as stop:
            assert signal.getsignal(signal.SIGTERM) is before
            stop.request()
            seen.append(stop)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen[0].requested
