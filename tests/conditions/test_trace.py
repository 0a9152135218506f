import pytest

from fedlearn.conditions import Trace
from fedlearn.data import FormatError

pytestmark = pytest.mark.backend_free

DAY = 86_400


def test_a_file_is_read(tmp_path):
    path = tmp_path / "trace.csv"
    path.write_text(
        "\ufeffclient,start,end,city\n"
        "anna, 79200, 93600, Basel\n"
        '"ben",3600,5400,\n'
        "anna,0,1800,Bern\n"
    )
    trace = Trace.from_csv(path, check_in=3600)
    assert trace == Trace(
        {"anna": [(79200, 93600), (0, 1800)], "ben": [(3600, 5400)]},
        check_in=3600,
    )
    # From 22:00 until 2:00, and half an hour at midnight.
    assert trace.check_ins("anna", 0) == [0, 79200, 82800]
    assert trace.check_ins("anna", 1) == [0, 3600]
    # Over two days, so on the third it begins again.
    assert trace.check_ins("anna", 2) == trace.check_ins("anna", 0)
    assert trace.check_ins("ben", 3) == []
    assert trace.check_ins("cleo", 0) == []
    assert Trace.from_config(trace.get_config()) == trace


def test_a_longer_period():
    trace = Trace({"anna": [(0, 1)]}, repeat_days=7)
    assert [d for d in range(15) if trace.check_ins("anna", d)] == [0, 7, 14]
    with pytest.raises(ValueError, match=r"repeat_days.*last second is 90000"):
        Trace({"anna": [(80000, 90000)]}, repeat_days=1)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "is empty"),
        ("a,b,end\n1,2,3\n", "line 1: there is no column client and no column"),
        ("client,start,end\n", "has a header, but no rows"),
        ("client,start,end\nanna,1,2\nben,3\n", "line 3: 2 cells"),
        ("client,start,end\n\xff,1,2\n", "in UTF-8"),
        ("client,start,end\nanna,x,2\n", "line 2: .*start='x'"),
        ("client,start,end\nanna,5,5\n", "line 2: .*start < end"),
        ("client,start,end\nanna,0,inf\n", "line 2"),
        ("client,start,end\n,0,1\n", "line 2: .*client=''"),
        ("client,start,end\nanna,-1,1\n", "line 2"),
    ],
)
def test_a_damaged_file_names_the_line(tmp_path, text, words):
    path = tmp_path / "trace.csv"
    path.write_text(text, encoding="latin-1")
    with pytest.raises(FormatError, match=words):
        Trace.from_csv(path)


@pytest.mark.parametrize(
    ("times", "words"),
    [
        ({}, "has nobody"),
        ({"anna": [(2, 1)]}, "'anna' is available from 2 to"),
        ({"anna": (2, 3)}, "`times` must be a dict from clients' ids to lists"),
    ],
)
def test_errors(times, words):
    with pytest.raises(ValueError, match=words):
        Trace(times)
