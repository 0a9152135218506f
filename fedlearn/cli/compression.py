"""What `--compress` puts between the clients and the server."""

from typing import Any

from absl import flags as absl_flags

from fedlearn.cli.errors import UsageError
from fedlearn.cli.flag_types import define
from fedlearn.cli.recipe import Named, Recipe, make_all, usages

_ENCODERS = "fedlearn.encoders:"

COMPRESSIONS = {
    "float16": Recipe(_ENCODERS + "Cast", options=(("dtype", "float16"),)),
    "bfloat16": Recipe(_ENCODERS + "Cast", options=(("dtype", "bfloat16"),)),
    "uniform": Recipe(_ENCODERS + "UniformQuantization", ("bits",)),
    "qsgd": Recipe(_ENCODERS + "StochasticQuantization", ("levels",)),
    "eden": Recipe(_ENCODERS + "Eden", ("bits",)),
    "drive": Recipe(_ENCODERS + "Drive"),
    "sign": Recipe(_ENCODERS + "SignSGD"),
    "terngrad": Recipe(_ENCODERS + "TernGrad"),
    "topk": Recipe(_ENCODERS + "TopK", ("fraction",), num_required=1),
    "mask": Recipe(_ENCODERS + "RandomMask", ("fraction",), num_required=1),
    "powersgd": Recipe(_ENCODERS + "PowerSGD", ("rank",)),
    "rotation": Recipe(_ENCODERS + "HadamardRotation"),
    "huffman": Recipe(
        _ENCODERS + "EntropyCoding", options=(("method", "huffman"),)
    ),
    "deflate": Recipe(
        _ENCODERS + "EntropyCoding", options=(("method", "deflate"),)
    ),
}

FLAGS = ("compress", "error_feedback")


def define_flags(values: absl_flags.FlagValues) -> None:
    """Defines the flags that `FLAGS` names."""
    define(
        values,
        "compress",
        None,
        "how clients' updates are compressed, several joined with +, such as "
        f"eden:2 or uniform:4+huffman: {usages(COMPRESSIONS)} (default: not)",
        Named(COMPRESSIONS, joined=True),
    )
    absl_flags.DEFINE_bool(
        "error_feedback",
        False,
        "a client adds to an update what earlier messages left out: for "
        "topk, sign and powersgd, where clients come back",
        flag_values=values,
    )


def encoders(flags: Any) -> list[Any]:
    """The chain of encoders that the flags name.

    Args:
        flags: With what `FLAGS` names.

    Raises:
        UsageError: If there is nothing to feed back.
        ValueError: If the encoders can't do what they should.
    """
    from fedlearn.encoders import ErrorFeedback

    if flags.error_feedback and flags.compress is None:
        raise UsageError(
            "--error_feedback is for what --compress leaves out. Add "
            "--compress, such as --compress=topk:0.01."
        )
    links = make_all(flags.compress, COMPRESSIONS) if flags.compress else []
    if not flags.error_feedback:
        return links
    # Entropy coding leaves nothing out, and has to come last.
    inner = [link for link in links if not link.variable_length]
    return [ErrorFeedback(inner), *links[len(inner) :]]
