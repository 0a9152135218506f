import contextlib
import email.utils
import hashlib
import http.server
import io
import os
import re
import socket
import subprocess
import sys
import threading
import time
import urllib.request

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
    left = {name for name in os.listdir(target.parent)}
    assert left - {f"{target.name}.checked.json"} == {target.name}


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


def test_relative_target_becomes_absolute(
    script, target, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    script.answers = [whole()]
    assert download(script.url(), "cache/a.bin") == target
    check(target)


def test_file_that_is_there_is_used(script, target):
    target.parent.mkdir()
    target.write_bytes(OTHER)
    assert download(script.url(), target, size=len(OTHER)) == target
    check(target, OTHER)
    assert script.requests == []


def test_file_of_another_checksum_is_an_error_and_stays(script, target):
    target.parent.mkdir()
    target.write_bytes(OTHER)
    for _ in range(2):
        with pytest.raises(DownloadError, match=f"SHA-256.*{SHA}.*Delete it"):
            download(script.url(), target, sha256=SHA, size=len(DATA))
    assert os.listdir(target.parent) == [target.name]
    check(target, OTHER)
    assert script.requests == []


@pytest.mark.parametrize("fetched", [True, False])
def test_a_checksum_is_compared_once(script, target, monkeypatch, fetched):
    if fetched:
        script.answers = [whole()]
    else:
        target.parent.mkdir()
        target.write_bytes(DATA)
    download(script.url(), target, sha256=SHA)

    def no_more(*args):
        raise AssertionError

    with monkeypatch.context() as patch:
        patch.setattr(hashlib, "file_digest", no_more)
        assert download(script.url(), target, sha256=SHA) == target
    # Damage of the same size, and another version that is wanted.
    os.utime(target, ns=(1, 1))
    target.write_bytes(DATA[:-1] + b"!")
    with pytest.raises(DownloadError, match="SHA-256"):
        download(script.url(), target, sha256=SHA)
    target.write_bytes(DATA)
    download(script.url(), target, sha256=SHA)
    with pytest.raises(DownloadError, match="SHA-256"):
        download(script.url(), target, sha256="0" * 64)


def test_file_of_another_size_is_an_error_and_stays(script, target):
    target.parent.mkdir()
    target.write_bytes(b"mine")
    with pytest.raises(DownloadError, match=r"4 bytes.*50,000") as raised:
        download(script.url(), target, sha256=SHA, size=len(DATA))
    assert f"{target} has" in str(raised.value)
    assert "Delete it" in str(raised.value)
    check(target, b"mine")
    assert script.requests == []


def test_folder_in_the_way(script, target):
    target.mkdir(parents=True)
    with pytest.raises(DownloadError, match=r"a\.bin is a folder"):
        download(script.url(), target)


def test_length_not_announced(script, target):
    script.answers = [answer(200, DATA)]
    download(script.url(), target, sha256=SHA)
    check(target)


def test_chunks(script, target):
    def chunked(handler, end=b"0\r\n\r\n"):
        handler.protocol_version = "HTTP/1.1"
        body = b"%x\r\n%s\r\n" % (len(DATA), DATA)
        answer(200, body + end, Transfer_Encoding="chunked", ETag='"1"')(
            handler
        )
        handler.close_connection = True

    script.answers = [lambda handler: chunked(handler, b""), chunked]
    download(script.url(), target)
    check(target)
    assert script.ranges() == [None, "bytes=50000-"]


@pytest.mark.parametrize(
    "validator",
    [{"ETag": '"1"'}, {"Last_Modified": "Sat, 01 Jan 2022 00:00:00 GMT"}],
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
    script.answers = [stall(script, 20_000, ETag='"1"'), part(20_000)]
    download(script.url(), target, timeout=0.7)
    check(target)
    assert script.ranges() == [None, "bytes=20000-"]


def test_later_call_goes_on(script, target):
    script.answers = [cut(20_000, ETag='"1"')]
    with pytest.raises(DownloadError, match="20,000 of 50,000 bytes"):
        download(script.url(), target, attempts=1)
    assert sorted(os.listdir(target.parent)) == [
        "a.bin.partial",
        "a.bin.partial.json",
    ]
    script.answers = [part(20_000, ETag='"1"')]
    download(script.url(), target, attempts=1)
    check(target)
    assert script.ranges() == [None, "bytes=20000-"]


def test_without_validator_or_checksum_nothing_is_continued(script, target):
    script.answers = [cut(20_000), cut(20_000, ETag='W/"1"'), whole()]
    download(script.url(), target)
    check(target)
    assert script.ranges() == [None, None, None]


def test_checksum_alone_is_enough_to_go_on(script, target):
    script.answers = [cut(20_000), part(20_000)]
    download(script.url(), target, sha256=SHA)
    check(target)
    assert script.ranges() == [None, "bytes=20000-"]
    assert "if-range" not in script.requests[1][1]


def test_rest_from_another_address_is_not_continued(script, target):
    script.answers = [cut(20_000, ETag='"1"'), whole()]
    with pytest.raises(DownloadError, match="20,000"):
        download(script.url(), target, attempts=1)
    download(script.url("/other"), target)
    check(target)
    assert script.ranges() == [None, None]


@pytest.mark.parametrize("text", ["", "{", "[]", '{"url": 1}', "\xff"])
def test_damaged_notes_of_a_partial_file(script, target, text):
    target.parent.mkdir()
    target.with_name("a.bin.partial").write_bytes(OTHER)
    target.with_name("a.bin.partial.json").write_bytes(text.encode("latin1"))
    script.answers = [whole()]
    download(script.url(), target)
    check(target)


def test_server_that_ignores_ranges(script, target):
    script.answers = [cut(20_000, ETag='"1"'), whole(ETag='"1"')]
    download(script.url(), target)
    check(target)
    assert len(script.requests) == 2


def test_file_that_changed_in_between(script, target):
    # If-Range: the new version, whole.
    script.answers = [cut(20_000, OTHER, ETag='"1"'), whole(ETag='"2"')]
    download(script.url(), target)
    check(target)


@pytest.mark.parametrize(
    "misfit",
    [
        part(20_000, ETag='"2"'),
        part(10_000, ETag='"1"'),
        part(20_000, ETag='"1"', Content_Range="bytes 20000-19999/50000"),
        part(20_000, ETag='"1"', Content_Range="bytes 20000-49999/49999"),
        part(20_000, ETag='"1"', Content_Range="bytes 20000-49998/50000"),
        part(20_000, ETag='"1"', Content_Range="nonsense"),
        answer(206, DATA[20_000:]),
        answer(204),
        answer(416, Content_Range="bytes */50000", Content_Length=0),
        answer(416, Content_Length=0),
    ],
)
def test_answer_that_does_not_fit_means_from_the_start(script, target, misfit):
    script.answers = [cut(20_000, OTHER, ETag='"1"'), misfit, whole()]
    download(script.url(), target, attempts=2)
    check(target)
    assert script.ranges() == [None, "bytes=20000-", None]


def test_part_of_an_unknown_total(script, target):
    def rest(start, stop):
        given = {"Content_Range": f"bytes {start}-49999/*", "ETag": '"1"'}
        return answer(206, DATA[start:stop], **given)

    script.answers = [
        cut(20_000, ETag='"1"'),
        rest(20_000, 30_000),
        rest(30_000, 50_000),
    ]
    download(script.url(), target)
    check(target)
    assert script.answers == []


def test_size_of_the_part_does_not_fit(script, target):
    script.answers = [
        cut(20_000, OTHER, ETag='"1"'),
        part(20_000, DATA + b"more", ETag='"1"'),
        whole(),
    ]
    download(script.url(), target, size=len(DATA))
    check(target)


def test_answer_that_was_not_asked_for(script, target):
    script.answers = [part(0, ETag='"1"')]
    with pytest.raises(DownloadError, match="answered 206 instead of 200"):
        download(script.url(), target)
    assert os.listdir(target.parent) == []


@pytest.fixture
def complete(script, target):
    """A partial file with all its bytes, as a kill can leave it."""
    script.answers = [cut(50_000, DATA + b"x", ETag='"1"')]
    with pytest.raises(DownloadError):
        download(script.url(), target, attempts=1)
    script.requests.clear()


@pytest.mark.usefixtures("complete")
def test_complete_partial_file_of_known_size(script, target):
    download(script.url(), target, sha256=SHA, size=len(DATA))
    check(target)
    assert script.requests == []


@pytest.mark.usefixtures("complete")
def test_complete_partial_file_of_unknown_size(script, target):
    script.answers = [answer(416, Content_Range="bytes */50000")]
    download(script.url(), target, sha256=SHA)
    check(target)


@pytest.mark.usefixtures("complete")
def test_partial_file_that_is_too_long(script, target):
    short = DATA[:40_000]
    script.answers = [whole(short)]
    download(script.url(), target, size=40_000)
    check(target, short)
    assert script.ranges() == [None]


def test_wrong_pieces_are_fetched_once_more_whole(script, target):
    script.answers = [cut(20_000, OTHER), part(20_000), whole()]
    download(script.url(), target, sha256=SHA)
    check(target)
    assert script.ranges() == [None, "bytes=20000-", None]
    assert script.answers == []


def test_wrong_pieces_and_a_wrong_whole(script, target):
    script.answers = [cut(20_000, OTHER), part(20_000), whole(OTHER), whole()]
    with pytest.raises(DownloadError, match=SHA):
        download(script.url(), target, sha256=SHA)
    assert os.listdir(target.parent) == []
    assert len(script.answers) == 1


def test_wrong_bytes(script, target, waits):
    script.answers = [whole(OTHER), whole()]
    with pytest.raises(DownloadError) as raised:
        download(script.url(), target, sha256=SHA, size=len(DATA))
    found = hashlib.sha256(OTHER).hexdigest()
    assert f"SHA-256 is {found} instead of {SHA}" in str(raised.value)
    assert os.listdir(target.parent) == []
    assert len(script.requests) == 1
    assert waits == []


def test_wrong_size_is_not_even_fetched(script, target):
    script.answers = [whole(DATA + b"x")]
    with pytest.raises(DownloadError, match="50,001 bytes instead of 50,000"):
        download(script.url(), target, size=len(DATA))
    assert os.listdir(target.parent) == []


def test_more_bytes_than_expected(script, target):
    script.answers = [answer(200, DATA * 30, ETag='"1"')]
    with pytest.raises(DownloadError, match="more than the 50,000 bytes"):
        download(script.url(), target, size=len(DATA))
    assert os.listdir(target.parent) == []


def test_fewer_bytes_than_expected(script, target):
    script.answers = [answer(200, DATA[:-1])] * 2
    with pytest.raises(DownloadError, match=r"49,999 of 50,000.*2 of 2"):
        download(script.url(), target, size=len(DATA), attempts=2)
    assert not target.exists()


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
    in_an_hour = email.utils.formatdate(time.time() + 3600, usegmt=True)
    long_ago = "Sat, 01 Jan 2022 00:00:00 GMT"
    script.answers = [
        answer(429, Retry_After="7"),
        answer(503, Retry_After="86400"),
        answer(503, Retry_After=in_an_hour),
        answer(503, Retry_After=long_ago),
        answer(503, Retry_After="soon"),
        answer(500),
        answer(502),
        answer(504),
        answer(408),
        whole(),
    ]
    download(script.url(), target, attempts=10)
    check(target)
    assert waits == [7, 60, 60, 0, 16, 32, 60, 60, 60]


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
    with pytest.raises(DownloadError, match="no answer") as raised:
        download(url, target, attempts=2, timeout=5)
    assert str(target) in str(raised.value)
    assert waits == [1]


def test_connection_closed_without_an_answer(script, target, waits):
    script.answers = [lambda handler: None, whole()]
    download(script.url(), target)
    check(target)
    assert waits == [1]


def test_no_answer_in_time(script, target, waits):
    script.answers = [lambda handler: script.go_on.wait(20), whole()]
    download(script.url(), target, timeout=0.7)
    check(target)
    assert waits == [1]


def test_redirect(script, target):
    script.answers = [
        answer(302, Location="/b"),
        answer(307, Location=script.url("/c")),
        whole(),
    ]
    download(script.url(), target, sha256=SHA)
    check(target)
    assert [path for path, _ in script.requests] == ["/a.bin", "/b", "/c"]


def test_range_follows_a_redirect(script, target):
    script.answers = [
        cut(20_000, ETag='"1"'),
        answer(302, Location="/b"),
        part(20_000),
    ]
    download(script.url(), target)
    check(target)
    assert script.ranges()[2] == "bytes=20000-"


def test_redirects_in_a_circle(script, target):
    script.answers = [answer(302, Location="/a.bin")] * 30
    with pytest.raises(DownloadError, match="in a circle"):
        download(script.url(), target)
    assert len(script.requests) < 15


def test_redirects_without_end(script, target):
    script.answers = [answer(302, Location=f"/{k}") for k in range(30)]
    with pytest.raises(DownloadError, match="not allowed"):
        download(script.url(), target)
    assert len(script.requests) < 15


@pytest.mark.parametrize("scheme", ["file", "ftp", "data"])
def test_redirect_to_another_scheme(script, target, tmp_path, scheme):
    (tmp_path / "secret").write_text("secret")
    url = (tmp_path / "secret").as_uri().replace("file", scheme)
    script.answers = [answer(302, Location=url)]
    with pytest.raises(DownloadError, match=r"not safe|not allowed"):
        download(script.url(), target)
    assert os.listdir(target.parent) == []


def test_redirect_from_https():
    request = urllib.request.Request("https://localhost/a")

    def follow(url):
        return module._Redirects().redirect_request(
            request, io.BytesIO(), 302, "Found", {}, url
        )

    assert follow("https://localhost/b").full_url == "https://localhost/b"
    with pytest.raises(module._FailedError, match="not safe"):
        follow("http://localhost/b")


def test_file_address(target, tmp_path, capsys):
    given = tmp_path / "with space.bin"
    given.write_bytes(DATA)
    url = given.as_uri()
    download(url, target, sha256=SHA, size=len(DATA), progress=True)
    check(target)
    assert capsys.readouterr().err.startswith("a.bin: 50.0 kB of 50.0 kB (100%")
    target.unlink()
    with pytest.raises(DownloadError, match="SHA-256"):
        download(url, target, sha256="0" * 64)
    with pytest.raises(DownloadError, match="arrived has 50,000 bytes"):
        download(url, target, size=3)
    with pytest.raises(DownloadError, match="No such file"):
        download(url + "x", target)
    assert os.listdir(target.parent) == []
    assert given.read_bytes() == DATA


@pytest.mark.parametrize(
    ("url", "changed", "match"),
    [
        ("ftp://localhost/a", {}, "begins with"),
        ("data:,a", {}, "begins with"),
        ("/tmp/a", {}, "begins with"),
        ("file://elsewhere/a", {}, "three slashes"),
        ("http://localhost/a", {"sha256": "abc"}, "64 hexadecimal"),
        ("http://localhost/a", {"attempts": 0}, "1 or more"),
    ],
)
def test_wrong_arguments(target, url, changed, match):
    with pytest.raises(ValueError, match=match):
        download(url, target, **changed)
    assert not target.parent.exists()


def test_folder_that_cannot_be_made(script, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(DownloadError, match="put it there by hand"):
        download(script.url(), tmp_path / "file" / "a.bin")
    assert script.requests == []


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_progress_on_a_terminal(script, target, monkeypatch):
    monkeypatch.setattr(module, "_SECONDS_BETWEEN_UPDATES", 0)
    monkeypatch.setattr(sys, "stderr", Terminal())
    script.answers = [cut(20_000, ETag='"1"'), part(20_000)]
    download(script.url(), target)
    text = sys.stderr.getvalue()
    lines = text.rstrip("\n").split("\r")[1:]
    assert "a.bin: 20.0 kB of 50.0 kB (40%), " in text
    assert re.match(r"a\.bin: 50\.0 kB of 50\.0 kB \(100%\), .*/s$", lines[-1])
    assert text.endswith("\n")
    assert text.count("\n") == 1
    assert max(map(len, lines)) == 79


def test_progress_is_not_written_all_the_time(script, target, monkeypatch):
    monkeypatch.setattr(module, "_SECONDS_BETWEEN_UPDATES", 3600)
    monkeypatch.setattr(sys, "stderr", Terminal())
    script.answers = [cut(20_000, ETag='"1"'), part(20_000)]
    download(script.url(), target)
    assert sys.stderr.getvalue().count("\r") == 1


def test_no_progress_when_told(script, target, monkeypatch):
    monkeypatch.setattr(sys, "stderr", Terminal())
    script.answers = [whole()]
    download(script.url(), target, progress=False)
    assert sys.stderr.getvalue() == ""


def test_progress_elsewhere_when_told(script, target, capsys):
    script.answers = [answer(200, DATA)]
    download(script.url(), target, progress=True)
    text = capsys.readouterr().err
    assert re.fullmatch(r"a\.bin: 50\.0 kB, .*/s\n", text)


def test_readable_sizes():
    sizes = [0, 999, 1000, 170_507_172, 4.7e9, 5e12]
    assert [module._readable(size) for size in sizes] == [
        "0 bytes",
        "999 bytes",
        "1.0 kB",
        "170.5 MB",
        "4.7 GB",
        "5000.0 GB",
    ]


FETCH = """
import sys
from fedlearn.data.fetching.download import download
print(download(sys.argv[1], sys.argv[2], sha256=sys.argv[3]))
assert not {"keras", "tensorflow", "jax", "torch"} & set(sys.modules)
"""


@pytest.mark.integration
def test_two_processes_fetch_once(script, target, tmp_path):
    """The first one's answer is held back until the second one waits."""

    def slowly(handler):
        assert script.go_on.wait(20)
        whole()(handler)

    script.answers = [slowly]
    log = tmp_path / "stderr"
    command = [sys.executable, "-c", FETCH, script.url(), str(target), SHA]
    with contextlib.ExitStack() as stack:
        stderr = stack.enter_context(open(log, "w"))
        processes = [
            stack.enter_context(
                subprocess.Popen(
                    command, stdout=subprocess.PIPE, stderr=stderr, text=True
                )
            )
            for _ in range(2)
        ]
        for process in processes:
            stack.callback(process.kill)
        end = time.monotonic() + 30
        while "Waiting" not in log.read_text():
            assert time.monotonic() < end, log.read_text()
            time.sleep(0.02)
        script.go_on.set()
        told = [process.communicate(timeout=30)[0] for process in processes]
    assert told == [f"{target}\n"] * 2, log.read_text()
    assert len(script.requests) == 1
    check(target)
