"""What a worker of `Processes` does, and how any is made like its driver."""

import os
import signal
import socket
import threading
import time
import traceback
from collections.abc import Mapping
from typing import Any

import keras

from fedlearn import backend
from fedlearn.executors.parcel import Parcel, pickled, receive, unpickled
from fedlearn.executors.shard_runner import ShardRunner


def main(descriptor: int, driver: int) -> None:
    """Runs shards until the driver ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with, args=[driver], daemon=True).start()
    connection = socket.socket(fileno=descriptor)
    runner = ShardRunner()
    try:
        configure(receive(connection))
        Parcel((None, None, None)).send(connection)
        while True:
            ticket, new, gone = receive(connection)
            for number in gone:
                runner.forget(number)
            for number in new:
                runner.keep(number, _received(connection))
            # It is kept until the driver has it, who sends something then.
            answer = _answer(ticket, runner, _received(connection))
            answer.send(connection)
    except (EOFError, OSError):
        return


def _received(connection: socket.socket) -> Any:
    try:
        return receive(connection)
    except EOFError:
        raise
    except Exception as error:  # what it is made of can't be made here
        return error


def _answer(ticket: int, runner: ShardRunner, job: Any) -> Parcel:
    try:
        if isinstance(job, Exception):
            raise job
        return Parcel((ticket, runner.run(job), None))
    except (Exception, SystemExit) as error:
        text = "".join(traceback.format_exception(error))
        sent: BaseException = error
        try:
            unpickled(pickled(error))
        except Exception:  # an error that can't be made again
            sent = RuntimeError(f"{type(error).__name__}: {error}")
        return Parcel((ticket, None, (sent, text)))


def settings() -> dict[str, Any]:
    """Keras's here, which a worker is to have."""
    return {
        "floatx": keras.config.floatx(),
        "epsilon": keras.config.epsilon(),
        "image_data_format": keras.config.image_data_format(),
    }


def configure(settings: Mapping[str, Any]) -> None:
    """Makes a worker compute as its driver, of which these are `settings`."""
    keras.config.set_floatx(settings["floatx"])
    keras.config.set_epsilon(settings["epsilon"])
    keras.config.set_image_data_format(settings["image_data_format"])
    keras.config.enable_unsafe_deserialization()  # the driver's own Lambdas


def environment(num_threads: int) -> Mapping[str, str]:
    """For a process that computes with so many threads."""
    count = str(num_threads)
    names = (
        *("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"),
        *("TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS", "NPROC"),
    )
    flags = os.environ.get("XLA_FLAGS", "").split()
    one_thread = "--xla_cpu_multi_thread_eigen=false"
    if num_threads == 1 and one_thread not in flags:
        flags.append(one_thread)
    variables = {
        **dict.fromkeys(names, count),
        "XLA_FLAGS": " ".join(flags),
        "KERAS_BACKEND": backend.name,
        # Several share a GPU.
        "TF_FORCE_GPU_ALLOW_GROWTH": "true",
        "XLA_PYTHON_CLIENT_PREALLOCATE": "false",
        "TF_CPP_MIN_LOG_LEVEL": os.environ.get("TF_CPP_MIN_LOG_LEVEL", "3"),
        # For glibc to keep the memory of a shard's arrays for the next one:
        # it gives large ones back, and fresh pages took a sixth of a round.
        "MALLOC_MMAP_THRESHOLD_": str(2**30),
        "MALLOC_TRIM_THRESHOLD_": str(2**28),
    }
    if backend.name == "jax":
        import jax

        # What changes numbers, also where it was said in code.
        for name in (
            "jax_default_matmul_precision",
            "jax_default_prng_impl",
            "jax_enable_x64",
            "jax_threefry_partitionable",
        ):
            value = getattr(jax.config, name)
            if value is not None:
                variables[name.upper()] = str(value)
    return variables


def _end_with(driver: int) -> None:
    """Ends the process when the one that started it is gone."""
    while os.getppid() == driver:
        time.sleep(0.5)
    os._exit(1)
