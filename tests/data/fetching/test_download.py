import contextlib
import hashlib
import http.server
import io
import os
import socket
import sys
import threading

import numpy as np
import pytest

from fedlearn.data.fetching import download as module
from fedlearn.data.fetching.download import DownloadError, download

pytestmark = pytest.mark.backend_free

DATA = np.random.default_rng(0).bytes(50_000)
OTHER = DATA[::-1]
SHA = hashlib.sha256(DATA).hexdigest()


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        script = self.server.script
        headers = {name.lower(): text for name, text in self.headers.items()}
        script.requests.append((self.path, headers))
        # A client that closed the connection is no error of the server.
        with contextlib.suppress(ConnectionError):
            script.answers.pop(0)(self)

    def log_message(self, *args):
        pass


class Script:
    """A server on this machine that gives one scripted answer a request."""

    def __init__(self, address):
        self.address = address
        self.answers = []
        self.requests = []
        self.go_on = threading.Event()

    def url(self, path="/a.bin"):
        return self.address + path

    def ranges(self):
        return [headers.get("range") for _, headers in self.requests]


@pytest.fixture
def script(monkeypatch):
    monkeypatch.setenv("no_proxy", "*")
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.script = Script(f"http://127.0.0.1:{server.server_port}")
    thread = threading.Thread(
        target=server.serve_forever, kwargs={"poll_interval": 0.02}
    )
    thread.start()
    try:
        yield server.script
    finally:
        server.script.go_on.set()
        server.shutdown()
        server.server_close()
        thread.join()


def answer(status=200, data=b"", **headers):
    """Sends as much as `data`, whatever the headers say."""

    def send(handler):
        handler.send_response(status)
        for name, value in headers.items():
            handler.send_header(name.replace("_", "-"), str(value))
        handler.end_headers()
        handler.wfile.write(data)

    return send


def whole(data=DATA, **headers):
    return answer(200, data, Content_Length=len(data), **headers)


def part(start, data=DATA, stop=None, **headers):
    stop = len(data) if stop is None else stop
    given = f"bytes {start}-{stop - 1}/{len(data)}"
    body = data[start:stop]
    headers = {"Content_Range": given, **headers}
    return answer(206, body, Content_Length=len(body), **headers)


def cut(at, data=DATA, **headers):
    """Closes the connection early."""
    return answer(200, data[:at], Content_Length=len(data), **headers)


def stall(script, at, data=DATA, **headers):
    """Sends a part, and then nothing."""

    def send(handler):
        cut(at, data, **headers)(handler)
        handler.wfile.flush()
        script.go_on.wait(20)

    return send


@pytest.fixture(autouse=True)
def waits(monkeypatch):
    """The seconds that the download would have slept between attempts."""
    slept = []
    monkeypatch.setattr(module, "_sleep", slept.append)
    return slept


@pytest.fixture
def target(tmp_path):
    return tmp_path / "cache" / "a.bin"


def check(target, data=DATA):
    assert target.read_bytes() == data
    assert os.listdir(target.parent) == [target.name]


def test_whole_file(script, target, waits, capsys):
    script.answers = [whole()]
    path = download(
        script.url(), str(target), sha256=SHA.upper(), size=len(DATA)
    )
    assert path == target
    check(target)
    assert script.ranges() == [None]
    assert waits == []
    assert capsys.readouterr().err == ""


def test_file_that_is_there_is_used(script, target):
    target.parent.mkdir()
    target.write_bytes(OTHER)
    assert download(script.url(), target, size=len(OTHER)) == target
    check(target, OTHER)
    assert script.requests == []


@pytest.mark.parametrize(
    ("mine", "match"),
    [
        (OTHER, f"has the SHA-256 .*{SHA}.*Delete it"),
        (b"mine", "has 4 bytes. Expected 50,000.*Delete it"),
    ],
)
def test_another_file_is_an_error_and_stays(script, target, mine, match):
    target.parent.mkdir()
    target.write_bytes(mine)
    with pytest.raises(DownloadError, match=match) as raised:
        download(script.url(), target, sha256=SHA, size=len(DATA))
    assert str(target) in str(raised.value)
    check(target, mine)
    assert script.requests == []


def test_length_not_announced(script, target):
    script.answers = [answer(200, DATA)]
    download(script.url(), target, sha256=SHA)
    check(target)


@pytest.mark.parametrize(
    "validator",
    [
        {"ETag": '"1"'},
        {"Last_Modified": "Sat, 01 Jan 2022 00:00:00 GMT"},
        {"Last_Modified": "Sat, 01 Jan 2022 00:00:00 GMT", "ETag": 'W/"1"'},
    ],
)
def test_truncated_transfer_goes_on(script, target, waits, validator):
    script.answers = [
        cut(20_000, **validator),
        part(20_000, stop=30_000, **validator),
        part(30_000, **validator),
    ]
    download(script.url(), target, sha256=SHA)
    check(target)
    assert script.ranges() == [None, "bytes=20000-", "bytes=30000-"]
    value = next(iter(validator.values()))
    for _, headers in script.requests[1:]:
        assert headers["if-range"] == value
    assert waits == [1, 2]


def test_stall_goes_on(script, target):
    script.answers = [
        stall(script, 20_000, ETag='"1"'),
        part(20_000, ETag='"1"'),
    ]
    download(script.url(), target, timeout=0.7)
    check(target)
    assert script.ranges() == [None, "bytes=20000-"]


def test_later_call_goes_on(script, target):
    script.answers = [cut(20_000, ETag='"1"')]
    with pytest.raises(DownloadError, match="20,000 of 50,000 bytes"):
        download(script.url(), target, attempts=1)
    assert sorted(os.listdir(target.parent)) == [
        "a.bin.partial",
        "a.bin.partial.version",
    ]
    script.answers = [part(20_000, ETag='"1"')]
    download(script.url(), target, attempts=1)
    check(target)
    assert script.ranges() == [None, "bytes=20000-"]


def test_without_a_version_nothing_is_continued(script, target):
    script.answers = [cut(20_000), cut(20_000, ETag='W/"1"'), whole()]
    download(script.url(), target)
    check(target)
    assert script.ranges() == [None, None, None]


@pytest.mark.parametrize(
    "answers",
    [
        # A server that ignores ranges, and If-Range for a new version.
        [whole(ETag='"1"')],
        [whole(ETag='"2"')],
        # Parts of another version or place, which are of no use.
        [part(20_000, ETag='"2"'), whole()],
        [part(10_000, ETag='"1"'), whole()],
        [part(20_000, ETag='"1"', Content_Range="nonsense"), whole()],
        [answer(416, Content_Range="bytes */50000"), whole()],
    ],
)
def test_from_the_start_again(script, target, answers):
    script.answers = [cut(20_000, OTHER, ETag='"1"'), *answers]
    download(script.url(), target)
    check(target)


def test_a_shorter_version(script, target):
    script.answers = [cut(20_000, ETag='"1"'), whole(OTHER[:9], ETag='"2"')]
    download(script.url(), target)
    check(target, OTHER[:9])


def test_pieces_of_a_new_version(script, target):
    script.answers = [
        cut(20_000, OTHER, ETag='"1"'),
        cut(10_000, ETag='"2"'),
        part(10_000, ETag='"2"'),
    ]
    download(script.url(), target)
    check(target)


def test_wrong_pieces_are_not_kept(script, target):
    script.answers = [cut(20_000, OTHER, ETag='"1"'), part(20_000, ETag='"1"')]
    with pytest.raises(DownloadError, match="arrived has the SHA-256"):
        download(script.url(), target, sha256=SHA)
    assert os.listdir(target.parent) == []


@pytest.mark.parametrize(
    ("data", "match"),
    [
        (OTHER, f"arrived has the SHA-256 .* Expected {SHA}"),
        (DATA + b"x", "arrived has 50,001 bytes. Expected 50,000"),
        (DATA[:-1], "arrived has 49,999 bytes. Expected 50,000"),
    ],
)
def test_another_version(script, target, waits, data, match):
    script.answers = [whole(data)]
    with pytest.raises(DownloadError, match=match):
        download(script.url(), target, sha256=SHA, size=len(DATA))
    assert os.listdir(target.parent) == []
    assert waits == []


@pytest.mark.parametrize("code", [400, 401, 403, 404, 410])
def test_answers_that_stay(script, target, waits, code):
    script.answers = [answer(code, b"sorry")]
    with pytest.raises(DownloadError, match=f"answered {code}") as raised:
        download(script.url(), target)
    text = str(raised.value)
    assert text.startswith(f"a.bin could not be fetched from {script.url()}")
    assert f"Expected the file at {target}: put it there by hand" in text
    assert "source=" in text
    assert len(script.requests) == 1
    assert waits == []
    assert os.listdir(target.parent) == []


def test_answers_that_pass(script, target, waits):
    script.answers = [answer(code) for code in (429, 500, 502, 504, 408)]
    script.answers.append(whole())
    download(script.url(), target, attempts=10)
    check(target)
    assert waits == [1, 2, 4, 8, 16]


def test_giving_up(script, target, waits):
    script.answers = [answer(503)] * 4
    with pytest.raises(DownloadError, match=r"answered 503.*attempt 3 of 3"):
        download(script.url(), target, attempts=3)
    assert waits == [1, 2]
    assert len(script.answers) == 1


def test_no_server(target, waits, monkeypatch):
    monkeypatch.setenv("no_proxy", "*")
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{unused.getsockname()[1]}/a.bin"
    with pytest.raises(DownloadError, match="connection failed") as raised:
        download(url, target, attempts=2, timeout=5)
    assert str(target) in str(raised.value)
    assert waits == [1]


@pytest.mark.parametrize("wait", [0, 20])
def test_no_answer(script, target, waits, wait):
    def nothing(handler):
        if wait:
            script.go_on.wait(wait)

    script.answers = [nothing, whole()]
    download(script.url(), target, timeout=0.7)
    check(target)
    assert waits == [1]


def test_redirect(script, target):
    script.answers = [
        cut(20_000, ETag='"1"'),
        answer(302, Location="/b"),
        part(20_000, ETag='"1"'),
    ]
    download(script.url(), target)
    check(target)
    assert script.ranges()[2] == "bytes=20000-"


def test_redirect_to_another_scheme(script, target, tmp_path):
    (tmp_path / "secret").write_text("secret")
    script.answers = [answer(302, Location=(tmp_path / "secret").as_uri())]
    with pytest.raises(DownloadError, match="302"):
        download(script.url(), target)
    assert os.listdir(target.parent) == []


def test_file_address(target, tmp_path, waits):
    given = tmp_path / "with space.bin"
    given.write_bytes(DATA)
    url = given.as_uri()
    download(url, target, sha256=SHA, size=len(DATA))
    check(target)
    target.unlink()
    with pytest.raises(DownloadError, match="No such file"):
        download(url + "x", target)
    assert os.listdir(target.parent) == []
    assert given.read_bytes() == DATA
    assert waits == []


def test_folder_that_cannot_be_made(script, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(DownloadError, match="put it there by hand"):
        download(script.url(), tmp_path / "file" / "a.bin")


def test_progress_on_a_terminal(script, target, monkeypatch):
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    monkeypatch.setattr(sys, "stderr", Terminal())
    monkeypatch.setattr(module, "_SECONDS_BETWEEN_UPDATES", -1)
    script.answers = [whole()]
    download(script.url(), target)
    shown = sys.stderr.getvalue()
    assert shown.endswith("\ra.bin: 0.1 of 0.1 MB\n")


def test_two_at_once(script, target):
    """Both are whole, whoever is first."""
    script.answers = [cut(20_000, ETag='"1"')]
    with pytest.raises(DownloadError):
        download(script.url(), target, attempts=1)

    def other(handler):
        # While this one is answered, another process fetches all of it.
        script.answers.append(whole(ETag='"1"'))
        target.with_name("a.bin.partial.version").unlink()
        download(script.url(), target)
        part(20_000, ETag='"1"')(handler)

    script.answers = [other]
    download(script.url(), target)
    check(target)
