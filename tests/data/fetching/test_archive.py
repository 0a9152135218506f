import errno
import io
import lzma
import os
import tarfile
import threading
import time

import numpy as np
import pytest

from fedlearn.data.fetching import archive
from fedlearn.data.fetching.archive import unpack_lzma, unpack_tar
from fedlearn.data.fetching.file_lock import file_lock
from fedlearn.data.formats.format_error import FormatError

pytestmark = pytest.mark.backend_free

PACKINGS = ["", "gz", "bz2", "xz"]
MANY = 1 << 24

# Bytes that no packing makes much smaller.
NOISE = np.random.default_rng(0).bytes(100_000)


@pytest.fixture
def target(tmp_path):
    return tmp_path / "out" / "plain"


@pytest.fixture
def packed(tmp_path, target):
    """Writes the LZMA file and gives its path."""
    target.parent.mkdir()

    def write(data):
        path = tmp_path / "data.lzma"
        path.write_bytes(data)
        return path

    return write


def nothing_in(folder):
    return not folder.exists() or not list(folder.iterdir())


@pytest.mark.parametrize("container", [lzma.FORMAT_XZ, lzma.FORMAT_ALONE])
class TestLzma:
    def test_one_stream(self, packed, target, container):
        source = packed(lzma.compress(NOISE, container))
        assert unpack_lzma(source, str(target), len(NOISE)) == target
        assert target.read_bytes() == NOISE
        assert os.listdir(target.parent) == ["plain"]

    def test_several_streams(self, packed, target, container):
        parts = [lzma.compress(part, container) for part in (b"ab", b"", b"c")]
        unpack_lzma(packed(b"\0\0\0\0".join(parts)), target, 10)
        assert target.read_bytes() == b"abc"

    def test_cut_short(self, packed, target, container):
        whole = lzma.compress(NOISE, container)
        twice = whole + whole
        for data in (
            b"",
            whole[:5],
            whole[: len(whole) // 2],
            whole[:-1],
            twice[: len(whole) + 5],
        ):
            with pytest.raises(FormatError, match=r"data\.lzma is cut short"):
                unpack_lzma(packed(data), target, MANY)
            assert nothing_in(target.parent)

    def test_bytes_after_the_end(self, packed, target, container):
        source = packed(lzma.compress(b"abc", container) + b"\xff" * 30)
        with pytest.raises(FormatError, match="is damaged"):
            unpack_lzma(source, target, MANY)
        assert nothing_in(target.parent)

    def test_more_than_allowed(self, packed, target, container):
        bomb = lzma.compress(bytes(6_000_000), container)
        assert len(bomb) < 10_000
        with pytest.raises(FormatError, match="more than 5,999,999 bytes"):
            unpack_lzma(packed(bomb), target, 5_999_999)
        assert nothing_in(target.parent)

    def test_file_that_is_there_is_used(self, packed, target, container):
        target.write_text("mine")
        source = packed(lzma.compress(b"other", container))
        assert unpack_lzma(source, target, MANY) == target
        assert target.read_text() == "mine"

    def test_rest_of_a_killed_process(self, packed, target, container):
        target.with_name("plain.partial").write_bytes(b"x" * 100)
        unpack_lzma(packed(lzma.compress(b"abc", container)), target, MANY)
        assert target.read_bytes() == b"abc"
        assert os.listdir(target.parent) == ["plain"]


def test_damaged_lzma(packed, target):
    damaged = bytearray(lzma.compress(NOISE))
    damaged[len(damaged) // 2] ^= 1
    for data in (bytes(damaged), b"SQLite format 3\0" * 20):
        with pytest.raises(FormatError, match=r"data\.lzma is damaged"):
            unpack_lzma(packed(data), target, MANY)
        assert nothing_in(target.parent)


def test_missing_lzma(tmp_path, target, packed):
    with pytest.raises(FileNotFoundError, match="none"):
        unpack_lzma(tmp_path / "none", target, MANY)
    assert nothing_in(target.parent)


def regular(name, data=b"evil"):
    entry = tarfile.TarInfo(name)
    entry.size = len(data)
    return entry, data


def of_type(name, kind, linkname="", size=0):
    entry = tarfile.TarInfo(name)
    entry.type, entry.linkname, entry.size = kind, linkname, size
    return entry, b""


def tar_of(path, *entries, packing="", form=tarfile.PAX_FORMAT):
    with tarfile.open(path, f"w:{packing}", format=form) as tar:
        for entry, data in entries:
            tar.addfile(entry, io.BytesIO(data))
    return path


@pytest.fixture
def source(tmp_path):
    (tmp_path / "in").mkdir()
    return tmp_path / "in" / "data.tar"


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "out"


@pytest.fixture
def refused(tmp_path, source, folder):
    """A function that checks that an archive is, and that it left nothing."""
    (tmp_path / "beside").write_text("mine")

    def check(match, *names, max_bytes=MANY):
        with pytest.raises(FormatError, match=match) as raised:
            unpack_tar(source, names or ["a"], folder, max_bytes)
        assert str(source) in str(raised.value)
        assert nothing_in(folder)
        assert sorted(os.listdir(tmp_path)) == ["beside", "in", "out"]
        assert os.listdir(tmp_path / "in") == ["data.tar"]
        assert (tmp_path / "beside").read_text() == "mine"

    return check


@pytest.mark.parametrize("packing", PACKINGS)
class TestPackings:
    def test_wanted_files(self, source, folder, packing):
        tar_of(
            source,
            of_type("top", tarfile.DIRTYPE),
            regular("top/a.h5", NOISE),
            regular("top/c.h5", b"c" * 3000),
            regular("./b.h5", b"b"),
            regular("x/" * 80 + "d", b"d"),
            packing=packing,
        )
        names = ["b.h5", "a.h5", "d"]
        paths = unpack_tar(str(source), iter(names), str(folder), MANY)
        assert paths == {name: folder / name for name in names}
        assert paths["a.h5"].read_bytes() == NOISE
        assert paths["b.h5"].read_bytes() == b"b"
        assert paths["d"].read_bytes() == b"d"
        assert sorted(os.listdir(folder)) == ["a.h5", "b.h5", "d"]

    def test_cut_short(self, source, refused, packing):
        tar_of(source, regular("a"), regular("b", NOISE), packing=packing)
        whole = source.read_bytes()
        # Between members, within one, and before the marker of the end.
        cuts = [0, 3, 700, 1024, 1536, 2048, len(whole) // 2]
        if packing:
            cuts += [len(whole) - 1]
        else:
            # All the members, but not the zeros that mark the end.
            cuts += [3 * 512 + -(-len(NOISE) // 512) * 512]
        for cut in cuts:
            source.write_bytes(whole[:cut])
            refused("cut short")

    def test_damaged(self, source, refused, packing):
        tar_of(source, regular("a"), regular("b", NOISE), packing=packing)
        whole = source.read_bytes()
        # Without checksums, only the headers of a plain tar can tell.
        damaged = bytearray(whole)
        damaged[len(whole) // 2 if packing else 1024 + 3] ^= 1
        source.write_bytes(damaged)
        refused("cut short or damaged")

    def test_bomb(self, source, refused, packing):
        tar_of(source, regular("x", bytes(3_000_000)), packing=packing)
        refused("more than 2,000,000 bytes", max_bytes=2_000_000)
        refused("more than 2,000,000 bytes", "x", max_bytes=2_000_000)


@pytest.mark.parametrize("packing", ["gz", "bz2", "xz"])
def test_bomb_behind_the_end_of_the_archive(source, refused, packing):
    tar_of(source, regular("a"))
    plain = source.read_bytes() + bytes(5_000_000)
    openers = {"gz": "gzip", "bz2": "bz2", "xz": "lzma"}
    module = __import__(openers[packing])
    source.write_bytes(module.compress(plain))
    refused("more than 2,000,000 bytes", max_bytes=2_000_000)


@pytest.mark.parametrize(
    "name",
    ["../a", "top/../../a", "..", "/a", "//a", "C:a", "c:\\a", "..\\a", "\\a"],
)
@pytest.mark.parametrize("beside", [[], [regular("a", b"good")]])
def test_path_out_of_the_folder(source, refused, name, beside):
    tar_of(source, *beside, regular(name))
    refused("absolute path|leads out of the folder")


@pytest.mark.parametrize(
    ("kind", "linkname", "match"),
    [
        (tarfile.SYMTYPE, "../beside", "is a link to '../beside'"),
        (tarfile.SYMTYPE, "b", "is a link to 'b'"),
        (tarfile.LNKTYPE, "../beside", "is a link"),
        (tarfile.CHRTYPE, "", "is a device"),
        (tarfile.BLKTYPE, "", "is a device"),
        (tarfile.FIFOTYPE, "", "is a device"),
        (b"Z", "", "cut short or damaged|unknown type"),
    ],
)
@pytest.mark.parametrize("name", ["a", "other"])
def test_links_and_devices(source, refused, kind, linkname, match, name):
    tar_of(source, of_type(name, kind, linkname), regular("top/a"))
    refused(match)


def test_link_that_a_later_file_would_go_through(source, refused):
    tar_of(
        source,
        of_type("top", tarfile.SYMTYPE, ".."),
        regular("top/beside"),
    )
    refused("is a link", "beside")


def test_sparse_file_may_claim_any_size(source, refused):
    pairs = {"GNU.sparse.size": str(1 << 60), "GNU.sparse.map": "0,1"}
    entry, data = regular("a", b"x")
    entry.pax_headers = {**pairs, "GNU.sparse.numblocks": "1"}
    tar_of(source, (entry, data))
    refused("is a file with holes")


def test_header_with_a_number_that_is_none(source, refused):
    entry, data = regular("a", b"x")
    entry.pax_headers = {"GNU.sparse.size": "9", "GNU.sparse.map": "x,y"}
    tar_of(source, (entry, data))
    refused("cut short or damaged")


def test_disk_that_fails_is_no_damage_of_the_file(source, folder, monkeypatch):
    class Failing(io.FileIO):
        def read(self, size):
            raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(archive, "_OPENERS", ((b"", Failing),))
    tar_of(source, regular("a"))
    with pytest.raises(OSError, match="Input/output error"):
        unpack_tar(source, ["a"], folder, MANY)
    assert nothing_in(folder)


def test_header_that_lies_about_the_size(source, refused):
    for name in ("a", "other"):
        for size in (5_000, MANY - 1, 1 << 62):
            entry = of_type(name, tarfile.REGTYPE, size=size)[0]
            source.write_bytes(
                entry.tobuf(tarfile.GNU_FORMAT) + b"x" * 512 + bytes(1024)
            )
            refused("cut short|more than 16,777,216 bytes")


@pytest.mark.parametrize("name", ["a", "other"])
def test_header_with_a_negative_size(source, refused, name):
    entry = of_type(name, tarfile.REGTYPE, size=-512)[0]
    source.write_bytes(entry.tobuf(tarfile.GNU_FORMAT) * 3 + bytes(1024))
    refused("cut short or damaged")


def test_header_of_a_long_name_that_is_a_bomb(source, refused):
    entry = of_type("a", tarfile.GNUTYPE_LONGNAME, size=1 << 21)[0]
    source.write_bytes(entry.tobuf(tarfile.GNU_FORMAT) + b"x" * (1 << 22))
    refused("a header of 2,097,152 bytes")


def test_long_names_without_end(source, refused):
    entry = of_type("a", tarfile.GNUTYPE_LONGNAME, size=512)[0]
    one = entry.tobuf(tarfile.GNU_FORMAT) + b"x" * 512
    source.write_bytes(one * 4000)
    refused("cut short or damaged")


def test_two_files_of_a_wanted_name(source, folder, refused):
    tar_of(source, regular("a"), regular("b/a"), regular("c"), regular("d/c"))
    refused("two files named 'a'")
    assert unpack_tar(source, [], folder, MANY) == {}


def test_missing_file(source, refused):
    tar_of(
        source,
        of_type("a", tarfile.DIRTYPE),
        regular("b"),
        *(regular(f"a/{k}") for k in range(7)),
    )
    refused(
        r"no file 'a', 'c'\. It has 'a/0', 'a/1', 'a/2', 'a/3', 'a/4', 'b' "
        r"and 2 more",
        "a",
        "b",
        "c",
    )


def test_archive_without_files(source, refused):
    tar_of(source)
    refused("It has no files")


def test_not_an_archive(source, refused):
    for data in (b"", b"SQLite format 3\0" * 100, b"\0" * 20):
        source.write_bytes(data)
        refused("cut short or damaged, or no tar archive")


def test_files_that_are_there_are_used(source, folder):
    tar_of(source, regular("a", b"new a"), regular("b", b"new b"))
    folder.mkdir()
    (folder / "a").write_text("mine")
    assert unpack_tar(source, ["a"], folder, MANY) == {"a": folder / "a"}
    assert (folder / "a").read_text() == "mine"
    unpack_tar(source, ["a", "b"], folder, MANY)
    assert (folder / "a").read_text() == "new a"
    assert (folder / "b").read_text() == "new b"


def test_rest_of_a_killed_process_is_removed(source, folder):
    tar_of(source, regular("a", b"good"))
    rest = folder / "data.tar.unpacked"
    rest.mkdir(parents=True)
    (rest / "a").write_text("half")
    unpack_tar(source, ["a"], folder, MANY)
    assert (folder / "a").read_text() == "good"
    assert os.listdir(folder) == ["a"]


@pytest.mark.parametrize("name", ["b/a", "../a", "..", "", "c:a", "b\\a"])
def test_wanted_name_with_a_folder(source, folder, name):
    tar_of(source, regular("a"))
    with pytest.raises(ValueError, match="without folders"):
        unpack_tar(source, [name], folder, MANY)
    assert not folder.exists()


def test_missing_archive(source, folder):
    with pytest.raises(FileNotFoundError, match=r"data\.tar"):
        unpack_tar(source, ["a"], folder, MANY)
    assert nothing_in(folder)


def test_headers_with_any_byte_changed_do_no_harm(source, folder, tmp_path):
    """Whatever tarfile makes of them: the file, or the one kind of error."""
    tar_of(source, regular("top/" + "x" * 120 + "/a", b"good"))
    whole = source.read_bytes()
    rng = np.random.default_rng(0)
    outcomes = set()
    for _ in range(100):
        damaged = bytearray(whole)
        for place in rng.integers(0, 2048, 2):
            damaged[place] = rng.integers(256)
        source.write_bytes(damaged)
        try:
            unpack_tar(source, ["a"], folder, MANY)["a"].unlink()
            outcomes.add("file")
        except FormatError:
            outcomes.add("error")
        assert nothing_in(folder)
    assert outcomes == {"file", "error"}
    assert sorted(os.listdir(tmp_path)) == ["in", "out"]


@pytest.mark.parametrize(
    ("lock", "unpack"),
    [
        ("plain.lock", lambda source, out: unpack_lzma(source, out, MANY)),
        (
            "none.unpacked.lock",
            lambda source, out: unpack_tar(source, [out.name], out.parent, 1),
        ),
    ],
)
def test_who_waits_uses_what_the_other_unpacked(
    tmp_path, target, capsys, lock, unpack
):
    target.parent.mkdir()
    errors = []

    def work():
        try:
            unpack(tmp_path / "none", target)  # there is nothing to unpack
        except Exception as error:
            errors.append(error)

    thread = threading.Thread(target=work)
    with file_lock(target.parent / lock):
        thread.start()
        end = time.monotonic() + 20
        while "Waiting" not in capsys.readouterr().err:
            assert time.monotonic() < end
            time.sleep(0.01)
        target.write_text("theirs")
    thread.join()
    assert errors == []
    assert target.read_text() == "theirs"
    assert os.listdir(target.parent) == ["plain"]
