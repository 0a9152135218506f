"""What `--compress` puts between the clients and the server."""

from typing import Any

from absl import flags as absl_flags

from fedlearn.cli.errors import UsageError
from fedlearn.cli.flag_types import Named, define
from fedlearn.names import ENCODERS, usages

# Unbiased, by making what they send larger: the error may be more than the
# update, and feeding it back would make it larger still.
_UNBIASED = ("mask", "qsgd", "terngrad")

FLAGS = ("compress", "error_feedback")


def define_flags(values: absl_flags.FlagValues) -> None:
    """Defines the flags that `FLAGS` names."""
    define(
        values,
        "compress",
        None,
        "how clients' updates are compressed, several joined with +, such as "
        f"eden:2 or rotation+uniform:4+huffman: {usages(ENCODERS)} "
        "(default: not)",
        Named(ENCODERS, joined=True),
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
    from fedlearn.encoders import EntropyCoding, ErrorFeedback, chain

    if flags.error_feedback and flags.compress is None:
        raise UsageError(
            "--error_feedback is for what --compress leaves out. Add "
            "--compress, such as --compress=topk:0.01."
        )
    names = [part.split(":")[0] for part in (flags.compress or "").split("+")]
    for name in _UNBIASED:
        if flags.error_feedback and name in names:
            raise UsageError(
                f"--error_feedback can't be with --compress={name}: its errors "
                "cancel in the mean of clients, and are too large to be sent "
                "later. Leave out --error_feedback, or take topk, sign or "
                "powersgd."
            )
    links = list(chain.links(flags.compress or []))
    if not flags.error_feedback:
        return links
    # Entropy coding leaves nothing out, and has to come last.
    inner = [link for link in links if not isinstance(link, EntropyCoding)]
    if not inner:
        raise UsageError(
            f"--error_feedback has nothing to send later: {flags.compress} "
            "leaves nothing out. Leave out --error_feedback, or put topk, "
            "sign or powersgd before it."
        )
    return [ErrorFeedback(inner), *links[len(inner) :]]
