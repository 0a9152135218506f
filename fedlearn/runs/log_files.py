import os
from collections.abc import Iterable

import keras


def go_on(
    callbacks: Iterable[keras.callbacks.Callback], num_rounds: int
) -> None:
    """Makes the files of `CSVLogger`s go on after so many rounds.

    After a kill a file may have rows of rounds that the checkpoint doesn't
    have, which are going to be computed, and written, again.
    """
    for callback in callbacks:
        if isinstance(callback, keras.callbacks.CSVLogger):
            callback.append = True  # or it would begin the file anew
            if os.path.exists(callback.filename):
                cut(callback.filename, num_rounds, callback.sep)


def cut(path: str, num_rounds: int, separator: str = ",") -> None:
    """Takes the rows of later rounds off the end of a CSV file.

    The first column is the round, from 0. Rows further up, of an earlier run
    that was written to the same file, stay.
    """
    with open(path, "rb+") as file:
        lines = file.readlines()
        while len(lines) > 1 and _is_later(lines[-1], num_rounds, separator):
            lines.pop()
        file.truncate(sum(map(len, lines)))


def _is_later(line: bytes, num_rounds: int, separator: str) -> bool:
    if not line.endswith(b"\n"):  # the kill came in the middle of it
        return True
    epoch = line.decode("utf-8", "replace").split(separator)[0]
    return epoch.isdigit() and int(epoch) >= num_rounds
