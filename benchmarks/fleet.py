"""A fleet of phones on paper: rounds an hour, bytes a second, tiers.

`python benchmarks/fleet.py` prints the figures of a billion phones by the hour,
and compares the model with `fedlearn.conditions.simulate` for fleets that are
small enough; `--picture fleet.png` draws that.

The model takes everything as it is on average. At an hour at which a share
`p` of `n` phones asks once in `check_in` seconds, `r = n p / check_in` ask each
second. A round opens with the first that asks, `1 / r` seconds after the last
one closed, and asks `a = over_select * clients_per_round` in `a / r` seconds.
A phone reports with probability `1 - drop_out`, after a time of distribution
F. So `t` seconds after the round opened

    R(t) = (1 - drop_out) r * integral of F(t - s) ds, s from 0 to min(t, a / r)

have reported. The round ends when that is `clients_per_round` less a half,
near the median of the last report that is waited for, or at the deadline. The
number of reports at the deadline has mean R(deadline), and is taken as
Poisson; the round counts if it is `at_least`.
"""

import argparse
import json
import math
import statistics

import numpy as np

from fedlearn import conditions


def model(given, works, population, goal, hour, bytes_down=0.0, bytes_up=0.0):
    """What happens at one hour of the day, on average.

    `works` are seconds that phones take, from the distribution F.
    """
    there = given.availability
    share = there.share(hour * 3600)
    rate = population * share / there.check_in
    asked = math.ceil(given.over_select * goal)
    window = min(asked / rate, given.deadline)

    def reported(seconds):
        # The integral of F from a to b is the mean of how much of [a, b] is
        # after a phone's time.
        after = np.maximum(seconds - works, 0)
        before = np.maximum(seconds - min(window, seconds) - works, 0)
        return (1 - given.drop_out) * rate * float(np.mean(after - before))

    low, high = 0.0, given.deadline
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (
            (middle, high) if reported(middle) < goal - 0.5 else (low, middle)
        )
    mean = reported(given.deadline)
    counts = at_least(mean, math.ceil(given.at_least * goal))
    lasts = 1 / rate + high
    per_hour = 3600 / lasts
    asked_in_time = min(asked, 1 + rate * high)
    return {
        "hour": hour,
        "share": share,
        "check_ins_per_second": rate,
        "round_seconds": lasts,
        "completed": counts,
        "rounds_per_hour": per_hour * counts,
        "down_per_second": asked_in_time * bytes_down / lasts,
        "up_per_second": min(mean, goal) * bytes_up / lasts,
    }


def at_least(mean, number):
    """The probability that a Poisson number is at least so large."""
    if mean > 1000:
        return 1 - statistics.NormalDist(mean, math.sqrt(mean)).cdf(
            number - 0.5
        )
    term, below = math.exp(-mean), 0.0
    for k in range(number):
        below += term
        term *= mean / (k + 1)
    return max(1 - below, 0.0)


def by_the_day(given, population, goal, draws=10_000, **bytes_):
    works = np.array(
        [
            given.seconds(
                str(i),
                i,
                None,
                bytes_.get("bytes_down", 0.0),
                bytes_.get("bytes_up", 0.0),
            )
            for i in range(min(population, draws))
        ]
    )
    return [
        model(given, works, population, goal, hour + 0.5, **bytes_)
        for hour in range(24)
    ]


def simulated(given, population, goal, days, **bytes_):
    """Rounds an hour of the simulator, by hour of the day."""
    expected = days * sum(
        h["rounds_per_hour"] for h in by_the_day(given, population, goal)
    )
    hours, rounds = [0.0], int(expected)
    while hours[-1] < 24 * days:
        rounds = int(1.2 * rounds) + 10
        found = conditions.simulate(
            given, [str(i) for i in range(population)], rounds, goal, **bytes_
        )
        hours = found.history["sim_hours"]
    at = [int(h) % 24 for h in hours if h < 24 * days]
    return np.bincount(at, minlength=24) / days


def servers(day, connections_per_core, bytes_per_core, cores):
    """Cores at the busiest hour, and how many tiers of such machines."""
    connections = max(h["check_ins_per_second"] for h in day)
    summed = max(h["up_per_second"] for h in day)
    needed = connections / connections_per_core + summed / bytes_per_core
    machines = math.ceil(needed / cores)
    # One sums; beyond that, leaves sum and one adds up their sums.
    return {
        "check_ins_per_second": round(connections),
        "up_MB_per_second": round(summed / 1e6, 1),
        "down_MB_per_second": round(
            max(h["down_per_second"] for h in day) / 1e6, 1
        ),
        "cores": round(needed, 1),
        "machines": machines,
        "tiers": 1 if machines == 1 else 2 if machines <= 1000 else 3,
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--megabytes", type=float, default=4.0)
    parser.add_argument("--days", type=int, default=2)
    parser.add_argument("--connections_per_core", type=float, default=1100)
    parser.add_argument("--bytes_per_core", type=float, default=0.5e9)
    parser.add_argument("--cores", type=int, default=16)
    parser.add_argument("--picture")
    flags = parser.parse_args()
    sent = {
        "bytes_down": flags.megabytes * 1e6,
        "bytes_up": flags.megabytes * 1e6,
    }
    for drop_out in (0.06, 0.10):
        for check_in in (3600.0, 43_200.0):
            phones = fleet(0.1, check_in, drop_out)
            day = by_the_day(phones, 1_000_000_000, 1000, **sent)
            told = {
                "phones": 1_000_000_000,
                "drop_out": drop_out,
                "check_in_hours": check_in / 3600,
                "rounds_per_hour_at_2": round(day[2]["rounds_per_hour"], 1),
                "rounds_per_hour_at_14": round(day[14]["rounds_per_hour"], 1),
                **servers(
                    day,
                    flags.connections_per_core,
                    flags.bytes_per_core,
                    flags.cores,
                ),
            }
            print(json.dumps(told))
    curves = {}
    for population in (2_000, 4_000, 10_000):
        phones = fleet(0.1, 1800.0, 0.08)
        paper = np.array(
            [
                h["rounds_per_hour"]
                for h in by_the_day(phones, population, 50, **sent)
            ]
        )
        found = simulated(phones, population, 50, flags.days, **sent)
        curves[population] = paper, found
        print(
            json.dumps(
                {
                    "phones": population,
                    "rounds_a_day_on_paper": round(float(paper.sum()), 1),
                    "simulated": round(float(found.sum()), 1),
                    "by_night_on_paper": round(float(paper[:5].mean()), 2),
                    "by_night_simulated": round(float(found[:5].mean()), 2),
                    "by_day_on_paper": round(float(paper[12:17].mean()), 2),
                    "by_day_simulated": round(float(found[12:17].mean()), 2),
                }
            )
        )
    if flags.picture:
        draw(curves, flags.picture)


def fleet(high, check_in, drop_out):
    """Phones of which a tenth is there by night, four times as many as by day.

    What else they are like is `fedlearn.conditions.Phones`.
    """
    phones = conditions.Phones(drop_out=drop_out)
    there = conditions.Diurnal(high, high / 4, check_in=check_in, habit=0.0)
    return conditions.Conditions.from_config(
        {
            **{
                name: getattr(phones, name)
                for name in conditions.Conditions().get_config()
            },
            "availability": there,
        }
    )


def draw(curves, path):
    """Rounds by hour of the day: lines on paper, steps as simulated."""
    from fedlearn.plot import style

    (ax,) = style.new_axes(7.0, 3.8)
    for (population, (paper, found)), colour in zip(
        curves.items(), style.SEVERAL, strict=False
    ):
        ax.stairs(found, range(25), color=colour, alpha=0.45, linewidth=1.6)
        label = f"{population:,} phones"
        ax.plot(np.arange(24) + 0.5, paper, color=colour, lw=2.4, label=label)
    style.tidy(ax)
    style.title(ax, "Rounds an hour, by hour of the day")
    style.key(ax, columns=3)
    ax.set_xlabel("hour; lines: on paper, steps: simulated", color=style.GREY)
    ax.set_xticks(range(0, 25, 3))
    ax.set_xlim(0, 24)
    ax.set_ylim(bottom=0)
    ax.figure.savefig(path, dpi=80)


if __name__ == "__main__":
    main()
