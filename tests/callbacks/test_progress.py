import keras
import pytest

from fedlearn.backend import compile_clock
from fedlearn.callbacks import progress

pytestmark = pytest.mark.backend_free


class Clock:
    def __init__(self):
        self.now = 100.0

    def perf_counter(self):
        return self.now


@pytest.fixture
def time(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(progress, "time", clock)
    monkeypatch.setattr(compile_clock, "time", clock)
    monkeypatch.setattr(compile_clock.clock, "seconds", 7.0)
    return clock


def test_a_line_tells_the_rounds_seconds_without_compiling(time, capsys):
    shown = progress.Progress(2)
    callbacks = keras.callbacks.CallbackList(
        [shown], model=None, epochs=3, initial_epoch=0
    )
    callbacks.on_train_begin()
    for number, (seconds, compiling) in enumerate(
        [(5.0, 4.0), (1.5, 0.0), (2.5, 0.01)]
    ):
        callbacks.on_epoch_begin(number)
        time.now += seconds
        compile_clock.clock.add(compiling)
        callbacks.on_epoch_end(number, {"loss": 0.5})
        time.now += 50  # what others do between rounds is theirs
    assert capsys.readouterr().out.splitlines() == [
        "Round 1/3 - 1 s/round + 4 s to compile - loss: 0.5",
        "Round 2/3 - 1.5 s/round - loss: 0.5",
        "Round 3/3 - 2.49 s/round - loss: 0.5",
    ]


def test_traces_within_traces_count_once(time):
    clock = compile_clock.CompileClock()

    def inner():
        time.now += 1

    def outer():
        time.now += 2
        clock.traces(inner)()
        clock.add(9.0)  # a compiler's, inside of a trace

    clock.traces(outer)()
    assert clock.seconds == 3.0
    clock.add(0.5)
    assert clock.seconds == 3.5
    with pytest.raises(ZeroDivisionError):
        clock.traces(lambda: 1 // 0)()
    clock.traces(inner)()
    assert clock.seconds == 4.5


def test_a_compiled_function_is_timed_when_it_is_traced(monkeypatch):
    import numpy as np

    from fedlearn import backend

    traced = []

    def double(x):
        traced.append(compile_clock.clock._tracing)
        return 2 * x

    compiled = backend.jit(double)
    x = keras.ops.convert_to_tensor(np.ones(3, "float32"))
    for _ in range(3):
        compiled(x)
    assert traced == [True]
