"""Epsilon beside what dp-accounting says itself, and what it costs.

Prints one line of JSON for each: figures of 1,000 rounds of Poisson sampling
of 1 % with noise multiplier 1 at delta 1e-5; milliseconds for the epsilon of
each further round (RDP, live) and seconds for the one at the end (PLD);
calibration to epsilon 2; the same for an example of the worst of 98 clients
with DP-SGD; and the error of correlated noise::

    python benchmarks/privacy.py
"""

import json
import time

import dp_accounting as dp
from dp_accounting import pld, rdp

import fedlearn as fl
from fedlearn import privacy

PLAN = {
    "rounds": 1000,
    "delta": 1e-5,
    "population": 10_000,
    "clients_per_round": 100,
}


def report(what, **values):
    print(json.dumps({"what": what, **values}))


def timed(function):
    start = time.perf_counter()
    value = function()
    return value, time.perf_counter() - start


def figures():
    event = dp.PoissonSampledDpEvent(0.01, dp.GaussianDpEvent(1.0))
    accountants = {"rdp": rdp.RdpAccountant, "pld": pld.PLDAccountant}
    for name, make in accountants.items():
        ours, seconds = timed(
            lambda name=name: privacy.compute_epsilon(
                noise_multiplier=1.0, accountant=name, **PLAN
            )
        )
        direct = make().compose(event, 1000).get_epsilon(1e-5)
        report(
            "epsilon",
            accountant=name,
            fedlearn=round(ours, 4),
            dp_accounting=round(direct, 4),
            seconds=round(seconds, 3),
        )


def live():
    guarantee = privacy.Guarantee(
        privacy.Gaussian(1.0),
        privacy.Participation("poisson", 10_000, 100),
        1e-5,
    )
    _, first = timed(lambda: guarantee.epsilon(1))
    _, others = timed(lambda: [guarantee.epsilon(t) for t in range(2, 102)])
    report(
        "live RDP",
        first_round_ms=round(1000 * first, 1),
        round_ms=round(10 * others, 2),
    )


def calibration():
    for name in ("rdp", "pld"):
        least, seconds = timed(
            lambda name=name: privacy.calibrate_noise_multiplier(
                epsilon=2.0, accountant=name, **PLAN
            )
        )
        report(
            "noise for epsilon 2",
            accountant=name,
            noise_multiplier=round(least, 4),
            seconds=round(seconds, 2),
        )


def examples():
    """DP-SGD at clients of 100 to 5,000 examples, all in every round."""
    client = fl.LocalTraining(
        "sgd", batch_size=32, dp=fl.clients.ExampleDP(1.0, 1.1)
    )
    sizes = {str(n): n for n in range(100, 5000, 50)}
    guarantee = privacy.ExampleGuarantee(client, sizes, delta=1e-5)
    _, first = timed(lambda: guarantee.epsilon(1))
    _, others = timed(lambda: [guarantee.epsilon(t) for t in range(2, 102)])
    statement, last = timed(lambda: guarantee.statement(100))
    event = dp.PoissonSampledDpEvent(
        32 / statement.num_examples, dp.GaussianDpEvent(1.1)
    )
    direct = pld.PLDAccountant().compose(event, statement.steps)
    report(
        "an example of a client",
        clients=len(sizes),
        largest_for=statement.client,
        fedlearn=round(statement.epsilon, 4),
        dp_accounting=round(direct.get_epsilon(1e-5), 4),
        first_round_ms=round(1000 * first, 1),
        round_ms=round(10 * others, 2),
        statement_seconds=round(last, 2),
    )


def correlated():
    known = privacy.square_root_coefficients(32)
    best = privacy.optimal_coefficients(32, 1024)
    for name, coefficients in {
        "independent": [1.0],
        "banded square root, 32": known,
        "optimal, 32 bands": best,
    }.items():
        error = privacy.mean_squared_error(coefficients, 1024)
        report("error of sums", noise=name, mean_squared=round(error, 2))


def main():
    figures()
    live()
    calibration()
    examples()
    correlated()


if __name__ == "__main__":
    main()
