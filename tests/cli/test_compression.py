import types

import pytest

from fedlearn import names
from fedlearn.cli import process, train
from fedlearn.cli.flags import UsageError, define
from fedlearn.encoders import Chain, EntropyCoding, ErrorFeedback

pytestmark = pytest.mark.backend_free


def encoders(compress, error_feedback=False):
    return process.encoders(
        types.SimpleNamespace(compress=compress, error_feedback=error_feedback)
    )


def test_help_lists_every_name_with_its_numbers(fedlearn):
    _, out, _ = fedlearn("train", "--help")
    text = " ".join(out.split())
    for usage in (
        "float16", "bfloat16", "uniform[:BITS]", "qsgd[:LEVELS[,BUCKET_SIZE]]",
        "eden[:BITS]", "drive", "sign", "terngrad[:CLIP_DEVIATIONS]",
        "topk:FRACTION", "mask:FRACTION", "powersgd[:RANK]", "rotation",
        "huffman", "deflate", "bzip2",
    ):  # fmt: skip
        assert f" {usage}" in text
    assert len(names.ENCODERS) == 15


def test_flags_become_a_chain():
    values = define(train.HELP)
    values(["fedlearn", "--compress=Rotation + Uniform:4 + BZip2"])
    links = process.encoders(values)
    Chain(links)  # takes them in this order
    assert [type(link).__name__ for link in links] == [
        "HadamardRotation", "UniformQuantization", "EntropyCoding",
    ]  # fmt: skip
    assert (links[1].bits, links[2].method) == (4, "bzip2")
    assert encoders(None) == []


def test_error_feedback_is_round_all_that_leaves_something_out():
    feedback, coding = encoders("rotation+sign+huffman", error_feedback=True)
    assert isinstance(feedback, ErrorFeedback)
    assert isinstance(coding, EntropyCoding)
    assert len(feedback.encoders) == 2


def test_error_feedback_needs_something_that_leaves_out():
    with pytest.raises(UsageError, match="Add --compress, such as"):
        encoders(None, error_feedback=True)


@pytest.mark.parametrize(
    ("compress", "message"),
    [
        ("uniform:2.5", "`bits` must be a whole number"),
        ("powersgd:1.5", "`rank` must be a whole number"),
        ("qsgd:7.5", "`levels` must be a whole number"),
        ("topk:nan", "`fraction` must be above 0"),
        ("terngrad:-1", "`clip_deviations` must be a finite"),
        ("eden:0", "`bits` must be a finite number above 0"),
    ],
)
def test_numbers_that_cant_be_say_why(compress, message):
    with pytest.raises(ValueError, match=message):
        encoders(compress)
