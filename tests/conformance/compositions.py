"""Algorithms by what they are put together with: what the table is made of."""

import keras

import fedlearn as fl
from fedlearn import aggregators, encoders
from tests import zoo

CLIENTS = zoo.clients((8, 5, 3, 9), make=zoo.line)


def _mean(algorithm, *links):
    weighting = "uniform" if algorithm != "FedAvg" else "num_examples"
    number = float(len(CLIENTS)) if algorithm == "FedBuff" else None
    return aggregators.Mean(links, weighting=weighting, denominator=number)


def _training(**arguments):
    return fl.LocalTraining(batch_size=4, **arguments)


def model(optimizer=None):
    built = keras.Sequential(
        [
            keras.Input((3,)),
            keras.layers.Dense(3, name="body"),
            keras.layers.Dense(1, name="head"),
        ]
    )
    built.compile(optimizer or keras.optimizers.SGD(0.01), "mse")
    return zoo.set_weights(built)


def with_statistics():
    built = keras.Sequential(
        [
            keras.Input((3,)),
            keras.layers.Dense(3, name="body"),
            keras.layers.BatchNormalization(),
            keras.layers.Dense(1, name="head"),
        ]
    )
    built.compile(keras.optimizers.SGD(0.01), "mse")
    return zoo.set_weights(built)


# The arguments that an algorithm needs.
ALGORITHMS = {
    "FedAvg": {},
    "FedProx": {"proximal": 0.1},
    "FedAvgM": {},
    "FedAdam": {},
    "Scaffold": {"population": 4},
    "FedDyn": {"population": 4},
    "FedNova": {},
    "FedExP": {},
    "MimeLite": {},
    "Mime": {},
    "QFedAvg": {},
    "AgnosticFedAvg": {"domains": list(CLIENTS)},
    "FedBuff": {"buffer_size": 4, "concurrency": 4},
    "FedPer": {"personal": "head"},
    "FedRep": {"personal": "head", "head_steps": 1},
    "LGFedAvg": {"personal": "body"},
    "FedRecon": {"personal": "head"},
    "Clustered": {},
    "Ditto": {},
    "APFL": {},
    "Reptile": {},
}

# What each is put together with: from its name to arguments.
WITH = {
    "central noise": lambda name: {
        "aggregator": aggregators.PrivateMean(
            clip_norm=1.0, noise_multiplier=1.0, clients_per_round=4
        ),
        "privacy": fl.privacy.Privacy(delta=1e-3),
    },
    "DP-SGD": lambda name: {
        "client": _training(dp=fl.clients.ExampleDP(1.0, 1.0)),
        "privacy": fl.privacy.Privacy(delta=1e-3),
    },
    "quantization": lambda name: {
        "aggregator": _mean(name, encoders.UniformQuantization(8))
    },
    "top-k, feedback": lambda name: {
        "aggregator": _mean(name, encoders.ErrorFeedback([encoders.TopK(0.5)]))
    },
    "secure sum": lambda name: {
        "aggregator": aggregators.SecureSum(
            value_range=1000.0, bits=24, clients_per_round=4
        )
    },
    "median": lambda name: {"aggregator": "median"},
    "FedAdam at the server": lambda name: {"server_optimizer": "fedadam:0.01"},
    "momentum at clients": lambda name: {
        "client": _training(optimizer=keras.optimizers.SGD(0.01, momentum=0.9))
    },
    "Adam at clients": lambda name: {
        "client": _training(optimizer=keras.optimizers.Adam(0.01))
    },
    "statistics": lambda name: {"model": with_statistics()},
}


def process(algorithm, partner, **arguments):
    """The process of a cell; raises ValueError where it is refused."""
    given = {
        "client": _training(),
        "model": model(),
        **WITH[partner](algorithm),
    }
    return getattr(fl.algorithms, algorithm)(
        **given, **ALGORITHMS[algorithm], **arguments
    )
