import keras
import pytest

from fedlearn.runs import log_files

pytestmark = pytest.mark.backend_free


def test_rows_of_an_earlier_run_in_the_same_file_stay(tmp_path):
    path = tmp_path / "log.csv"
    path.write_text("epoch;loss\n" + "".join(f"{i};1\n" for i in [0, 1, 2] * 2))
    log_files.cut(path, 1, ";")
    assert path.read_text() == "epoch;loss\n0;1\n1;1\n2;1\n0;1\n"
    log_files.cut(path, 1, ";")
    assert path.read_text() == "epoch;loss\n0;1\n1;1\n2;1\n0;1\n"


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("epoch,loss\n0,1\n1,2\n", "epoch,loss\n0,1\n"),
        ("epoch,loss\n0,1\n1,", "epoch,loss\n0,1\n"),
        ("epoch,loss\n0,1\n", "epoch,loss\n0,1\n"),
        ("epoch,loss\n", "epoch,loss\n"),
        ("epo", "epo"),
        ("", ""),
        ("epoch,loss\n0,1\n10,2\n", "epoch,loss\n0,1\n"),
    ],
)
def test_rows_of_later_rounds_are_cut(tmp_path, text, left):
    path = tmp_path / "log.csv"
    path.write_text(text)
    log_files.cut(path, 1)
    assert path.read_text() == left


def test_a_logger_goes_on_with_its_own_separator(tmp_path):
    path = tmp_path / "log.csv"
    path.write_text("epoch;loss\n0;1\n1;2\n")
    logger = keras.callbacks.CSVLogger(path, separator=";")
    other = keras.callbacks.CSVLogger(tmp_path / "new.csv")
    log_files.go_on([keras.callbacks.Callback(), logger, other], 1)
    assert (logger.append, other.append) == (True, True)
    assert path.read_text() == "epoch;loss\n0;1\n"
