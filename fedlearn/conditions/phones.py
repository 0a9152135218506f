from typing import Any

from fedlearn import checks
from fedlearn.conditions.conditions import Conditions
from fedlearn.conditions.diurnal import Diurnal
from fedlearn.conditions.durations import LogNormal
from fedlearn.conditions.network import Network


class Phones(Conditions):
    """Phones that train while they are idle, charging and on Wi-Fi.

    After Bonawitz et al. 2019, "Towards federated learning at scale: system
    design", arXiv:1902.01046, section 9: four times as many take part by night
    as by day, 6 to 10 % drop out, and 130 % of those that are needed are asked.
    What they don't say is made up: how many of the phones are there by night,
    how slow they are, and when a round is given up.

    Training takes a minute for 100 examples (20 in 5 local epochs, say), in
    the median, and twelve times as long for one in a hundred; 20 Mbit/s come
    in and 5 go out, in the median.

    Args:
        high: Share of the phones that ask for work at 2 in the night, in half
            an hour.
        low: The share at 2 in the afternoon.
        habit: How far it is always the same phones, as of `Diurnal`.
        seed: Of which phones are slow, and which are there when.
        **server: `drop_out` (here 0.08), `over_select` (1.3), `deadline` (1,800
            seconds) and `at_least` (0.8), as of `Conditions`.

    Example:

    >>> Phones(deadline=300.0).over_select
    1.3
    """

    sets = ("availability", "durations", "network")

    def __init__(
        self,
        high: float = 0.4,
        low: float = 0.1,
        habit: float = 0.5,
        seed: int = 0,
        **server: Any,
    ):
        self.high = high
        self.low = low
        self.habit = habit
        self.seed = checks.whole("seed", seed, least=0)
        given = {
            "drop_out": 0.08,
            "over_select": 1.3,
            "deadline": 1800.0,
            "at_least": 0.8,
        }
        super().__init__(
            availability=Diurnal(high, low, habit=habit, seed=seed),
            durations=LogNormal(
                median=60.0, spread=0.4, seed=seed, num_examples=100
            ),
            network=Network(seed=seed),
            **{**given, **server},
        )
