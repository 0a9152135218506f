"""Strings that stand for objects: `eden:2`, `krum:2,5`, `fedadam:0.1`.

A table a kind, in arguments and on the command line. It is kept apart from
the classes, which bring in a backend: help is printed without one.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

from fedlearn.advice.did_you_mean import did_you_mean


class Name(NamedTuple):
    """What one of the strings stands for.

    Attributes:
        makes: The class, as `module:name`.
        needed: Arguments that numbers after the name are for.
        more: Further ones, which may be left out.
        options: Other arguments that it is made with.
    """

    makes: str
    needed: tuple[str, ...] = ()
    more: tuple[str, ...] = ()
    options: Mapping[str, Any] = {}

    def usage(self, name: str) -> str:
        """How it is written, for the help and for errors: `c:RATE[,SIZE]`."""
        text = name + ":" * bool(self.needed)
        text += ",".join(n.upper() for n in self.needed)
        for i, number in enumerate(self.more):
            first = not self.needed and not i
            text += f"[{':' if first else ','}{number.upper()}"
        return text + "]" * len(self.more)


def usages(names: Mapping[str, Name]) -> str:
    """How all of them are written, for the help and for errors."""
    return ", ".join(entry.usage(name) for name, entry in names.items())


def normal(text: str) -> str:
    """A string without capitals and spaces."""
    return text.lower().replace(" ", "")


def read(text: str, names: Mapping[str, Name]) -> tuple[Name, dict[str, float]]:
    """What a string stands for, and the arguments that its numbers are.

    Raises ValueError if there is no such name, or its numbers are wrong.
    """
    name, colon, rest = text.partition(":")
    if name not in names:
        if name == "range" and "bzip2" in names:
            raise ValueError(
                "there is no 'range' any more. Use 'huffman', or 'bzip2' "
                "where most numbers are the same."
            )
        raise ValueError(
            f"there is no {name!r}. Expected {usages(names)}."
            + did_you_mean(name, names)
        )
    entry = names[name]
    texts = rest.split(",") if colon else []
    arguments = (*entry.needed, *entry.more)
    if not len(entry.needed) <= len(texts) <= len(arguments):
        raise ValueError(
            f"{text!r} has {len(texts)} numbers. Expected {entry.usage(name)}."
        )
    numbers = [_number(t, entry.usage(name)) for t in texts]
    return entry, dict(zip(arguments, numbers, strict=False))


def _number(text: str, usage: str) -> float:
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            pass
    raise ValueError(f"{text!r} isn't a number. Expected {usage}.")


def _named(module: str, **classes: Any) -> dict[str, Name]:
    """From `class`, or `(class, needed, more, options)`."""
    return {
        name: Name(f"{module}:{entry[0]}", *entry[1:])
        for name, entry in classes.items()
    }


AGGREGATORS = _named(
    "fedlearn.aggregators",
    mean=("Mean",),
    median=("Median",),
    trimmed_mean=("TrimmedMean", ("fraction",)),
    krum=("Krum", ("num_byzantine",), ("num_selected",)),
    bulyan=("Bulyan", ("num_byzantine",)),
    geometric_median=("GeometricMedian",),
    centered_clipping=("CenteredClipping", (), ("tau", "num_iterations")),
    norm_bounding=("NormBounding", (), ("norm",)),
    outlier_removal=("OutlierRemoval", (), ("factor",)),
    secure_sum=("SecureSum", ("value_range",), ("bits",)),
)

ALGORITHMS = _named(
    "fedlearn.algorithms",
    fedavg=("FedAvg",),
    fedprox=("FedProx", (), ("proximal",)),
    fedavgm=("FedAvgM", (), ("momentum",)),
    fedadam=("FedAdam", (), ("server_learning_rate",)),
    fedyogi=("FedYogi", (), ("server_learning_rate",)),
    fedadagrad=("FedAdagrad", (), ("server_learning_rate",)),
    scaffold=("Scaffold",),
    feddyn=("FedDyn", (), ("alpha",)),
    fednova=("FedNova",),
    fedexp=("FedExP", (), ("epsilon",)),
    fedbuff=("FedBuff", (), ("concurrency",)),
    apfl=("APFL", (), ("alpha",)),
    ditto=("Ditto", (), ("strength",)),
    mimelite=("MimeLite",),
    mime=("Mime",),
    qfedavg=("QFedAvg", (), ("q",)),
    agnosticfedavg=("AgnosticFedAvg", (), ("domain_learning_rate",)),
    reptile=("Reptile", (), ("server_learning_rate",)),
    clustered=("Clustered", (), ("clusters",)),
    fedper=("FedPer",),
    fedbn=("FedBN",),
    fedrep=("FedRep", ("head_steps",)),
    lgfedavg=("LGFedAvg",),
    fedrecon=("FedRecon", (), ("reconstruct_steps",)),
)

ATTACKS = _named(
    "fedlearn.attacks",
    gaussian_noise=("GaussianNoise", ("stddev",)),
    inner_product=("InnerProduct", ("epsilon",)),
    little_is_enough=("LittleIsEnough", (), ("z",)),
    scaling=("Scaling", ("factor",)),
    sign_flip=("SignFlip", (), ("scale",)),
)

CLIENTS = _named(
    "fedlearn.clients",
    fedavg=("LocalTraining",),
    fedprox=("LocalTraining", (), ("proximal",), {"proximal": 0.1}),
)

CONDITIONS = _named(
    "fedlearn.conditions",
    phones=("Phones", (), ("high", "low")),
)

ENCODERS = _named(
    "fedlearn.encoders",
    float16=("Cast", (), (), {"dtype": "float16"}),
    bfloat16=("Cast", (), (), {"dtype": "bfloat16"}),
    uniform=("UniformQuantization", (), ("bits",)),
    qsgd=("StochasticQuantization", (), ("levels", "bucket_size")),
    eden=("Eden", (), ("bits",)),
    drive=("Drive",),
    sign=("SignSGD",),
    terngrad=("TernGrad", (), ("clip_deviations",)),
    topk=("TopK", ("fraction",)),
    mask=("RandomMask", ("fraction",)),
    powersgd=("PowerSGD", (), ("rank",)),
    rotation=("HadamardRotation",),
    huffman=("EntropyCoding", (), (), {"method": "huffman"}),
    deflate=("EntropyCoding", (), (), {"method": "deflate"}),
    bzip2=("EntropyCoding", (), (), {"method": "bzip2"}),
)

EXECUTORS = _named(
    "fedlearn.executors",
    auto=("Auto",),
    sequential=("Sequential",),
    vectorized=("Vectorized",),
    processes=("Processes",),
    devices=("Devices",),
    ray=("Ray",),
)

OPTIMIZERS = {
    name.lower(): Name(f"{module}:{name}", (), ("learning_rate",))
    for module, kinds in {
        "keras.optimizers": "SGD Adam AdamW Adagrad Adadelta Adamax Nadam "
        "RMSprop Lion",
        "fedlearn.optimizers": "Yogi FedAdagrad FedAdam FedYogi",
    }.items()
    for name in kinds.split()
}

SAMPLERS = _named(
    "fedlearn.samplers",
    uniform=("Uniform", ("clients_per_round",)),
    poisson=("Poisson", ("clients_per_round",)),
    round_robin=("RoundRobin", ("clients_per_round",)),
    min_separation=("MinSeparation", ("clients_per_round", "min_separation")),
)
