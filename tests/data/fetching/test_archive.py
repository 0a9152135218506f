import io
import lzma
import os
import tarfile

import numpy as np
import pytest

from fedlearn.data.fetching.archive import unpack_lzma, unpack_tar
from fedlearn.data.formats.format_error import FormatError

pytestmark = pytest.mark.backend_free

# Bytes that no packing makes much smaller.
NOISE = np.random.default_rng(0).bytes(100_000)


@pytest.mark.parametrize("container", [lzma.FORMAT_XZ, lzma.FORMAT_ALONE])
def test_lzma(tmp_path, container):
    source, target = tmp_path / "data.lzma", tmp_path / "plain"
    whole = lzma.compress(NOISE, container)
    damaged = bytearray(whole)
    damaged[1000] ^= 1
    for data in (b"", whole[:5], whole[:-1], bytes(damaged), b"SQLite" * 20):
        source.write_bytes(data)
        with pytest.raises(FormatError, match=r"data\.lzma is cut short, dam"):
            unpack_lzma(source, target)
        assert os.listdir(tmp_path) == ["data.lzma"]
    source.write_bytes(whole + lzma.compress(b"end", container))
    assert unpack_lzma(source, str(target)) == target
    assert target.read_bytes() == NOISE + b"end"


MEMBERS = {"data/a.h5": NOISE, "./b.h5": b"bee", "data/other.txt": b"no"}


def pack(path, packing, members=MEMBERS):
    with tarfile.open(path, f"w:{packing}") as archive:
        for name, data in members.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            archive.addfile(entry, io.BytesIO(data))


@pytest.mark.parametrize("packing", ["", "gz", "bz2", "xz"])
def test_tar(tmp_path, packing):
    source, folder = tmp_path / "set.tar", tmp_path / "out"
    pack(source, packing)
    whole = source.read_bytes()
    for data in (whole[:50_000], b"", b"no archive" * 100):
        source.write_bytes(data)
        with pytest.raises(FormatError, match=r"set\.tar.*cut short"):
            unpack_tar(source, ["a.h5", "b.h5"], folder)
        assert os.listdir(folder) == []
    source.write_bytes(whole)
    paths = unpack_tar(source, ["a.h5", "b.h5"], folder)
    assert paths == {"a.h5": folder / "a.h5", "b.h5": folder / "b.h5"}
    assert paths["a.h5"].read_bytes() == NOISE
    assert paths["b.h5"].read_bytes() == b"bee"
    assert sorted(os.listdir(folder)) == ["a.h5", "b.h5"]
    # What is there is used.
    source.unlink()
    assert unpack_tar(source, ["a.h5", "b.h5"], folder) == paths


def test_tar_without_a_file(tmp_path):
    pack(tmp_path / "set.tar", "")
    with pytest.raises(FormatError, match=r"no file 'c.h5', but 'a.h5', "):
        unpack_tar(tmp_path / "set.tar", ["a.h5", "c.h5"], tmp_path / "out")
    assert os.listdir(tmp_path / "out") == []


def test_tar_writes_nowhere_else(tmp_path):
    members = {"../../a.h5": b"up", "/tmp/evil": b"root"}
    pack(tmp_path / "set.tar", "", members)
    unpack_tar(tmp_path / "set.tar", ["a.h5"], tmp_path / "deep" / "out")
    assert (tmp_path / "deep" / "out" / "a.h5").read_bytes() == b"up"
    assert sorted(os.listdir(tmp_path)) == ["deep", "set.tar"]
    assert os.listdir(tmp_path / "deep") == ["out"]
