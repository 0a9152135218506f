"""What a worker of `Processes` does, and how any is made like its driver."""

import os
import signal
import threading
import time
import traceback
from collections.abc import Mapping
from multiprocessing.connection import Connection
from typing import Any

import keras

from fedlearn.executors.parcel import Parcel, pickled, receive, unpickled
from fedlearn.executors.shard_runner import ShardRunner


def main(descriptor: int, driver: int) -> None:
    """Runs shards until the driver ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with, args=[driver], daemon=True).start()
    connection = Connection(descriptor)
    runner = ShardRunner()
    try:
        configure(receive(connection))
        Parcel((None, None, None)).send(connection, driver)
        while True:
            what, number = receive(connection)
            try:
                thing: Any = receive(connection)
            except Exception as error:
                if isinstance(error, EOFError):
                    raise
                thing = error
            if what == "keep":
                runner.keep(number, thing)
            elif what == "forget":
                runner.forget(number)
            else:
                _answer(number, runner, thing).send(connection, driver)
    except (EOFError, OSError):
        return


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


def _end_with(driver: int) -> None:
    """Ends the process when the one that started it is gone."""
    while os.getppid() == driver:
        time.sleep(0.5)
    os._exit(1)
