import os
import signal
import threading

import pytest

from facetrain.core.uninterrupted import uninterrupted


def interrupt():
    os.kill(os.getpid(), signal.SIGINT)


def test_a_block_ends_before_it_is_heard():
    done = []
    with pytest.raises(KeyboardInterrupt), uninterrupted():
        interrupt()
        done.append("whole")
    assert done == ["whole"]
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_an_error_does_not_swallow_it():
    with pytest.raises(KeyboardInterrupt) as caught, uninterrupted():
        interrupt()
        raise ValueError("x")
    assert isinstance(caught.value.__context__, ValueError)
    with pytest.raises(ValueError, match="x"), uninterrupted():
        raise ValueError("x")


def test_blocks_within_blocks():
    done = []
    with pytest.raises(KeyboardInterrupt), uninterrupted():
        with uninterrupted():
            interrupt()
        done.append("inner")
    assert done == ["inner"]


def test_other_threads_change_nothing():
    found = []

    def work():
        with uninterrupted():
            found.append(signal.getsignal(signal.SIGINT))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert found == [signal.default_int_handler]
