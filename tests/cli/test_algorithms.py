import keras
import pytest

from fedlearn.cli.algorithms import ALGORITHMS, optimizer
from fedlearn.names import OPTIMIZERS
from fedlearn.optimizers import FedAdagrad, FedAdam, FedYogi


@pytest.mark.parametrize(
    ("name", "server"),
    [
        ("fedavg", keras.optimizers.SGD),
        ("fedprox", keras.optimizers.SGD),
        ("fedavgm", keras.optimizers.SGD),
        ("fedadam", FedAdam),
        ("fedyogi", FedYogi),
        ("fedadagrad", FedAdagrad),
    ],
)
def test_server_optimizers(name, server):
    algorithm = ALGORITHMS[name]
    made = optimizer(
        algorithm.server, algorithm.learning_rate, **algorithm.options
    )
    assert type(made) is server
    assert float(made.learning_rate) == pytest.approx(algorithm.learning_rate)
    config = made.get_config()
    assert all(config[k] == v for k, v in algorithm.options.items())


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_optimizers_have_their_own_learning_rate(name):
    assert float(optimizer(name, None).learning_rate) > 0


def test_only_fedprox_is_proximal():
    proximal = {n for n, a in ALGORITHMS.items() if a.proximal}
    assert proximal == {"fedprox"}
