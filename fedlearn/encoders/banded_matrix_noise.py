from collections.abc import Sequence
from typing import Any

import numpy as np
from keras import ops

from fedlearn import checks
from fedlearn.encoders import noise_grid
from fedlearn.encoders.encoder import Updated
from fedlearn.encoders.gaussian_noise import GaussianNoise
from fedlearn.privacy.banded import BandedMatrix, square_root_coefficients


class BandedMatrixNoise(GaussianNoise):
    """Noise that partly cancels over rounds, by a banded matrix.

    The matrix mechanism of Choquette-Choo et al. 2023, "(Amplified) banded
    matrix factorization" (arXiv:2306.08153), with a Toeplitz matrix `C`, as
    McKenna 2024, "Scaling up the banded matrix factorization mechanism"
    (arXiv:2405.15913): the noise of all rounds is `C^-1 z`, where `z` is
    Gaussian. With `c_0, ..., c_(b-1)` the bands, round `t` gets

        x_t = (z_t - c_1 x_(t-1) - ... - c_(b-1) x_(t-b+1)) / c_0,

    so the state is the last `b - 1` noises, and one band is `GaussianNoise`.

    The noise `z` has the deviation `noise_multiplier` times the clip norm.
    What that hides depends on `C` and on how often, and how far apart, a
    client takes part (`fedlearn.privacy.BandedMatrix`). Best is at least `b`
    rounds apart, as `fedlearn.samplers.MinSeparation` sees to.

    Args:
        noise_multiplier: 0 for none.
        bands: How many; the coefficients are then those of
            `fedlearn.privacy.square_root_coefficients`.
        coefficients: `c_0, ..., c_(b-1)`, instead: such as
            `fedlearn.privacy.optimal_coefficients`.

    Raises:
        ValueError: If not exactly one of `bands` and `coefficients` is given,
            or if the noise would grow from round to round.

    Example: the noise of a second round takes back part of the first's.

    >>> noise = BandedMatrixNoise(1.0, coefficients=[1.0, 0.5])
    >>> encoder = noise.build([ops.zeros(1000)])
    >>> state, rng = encoder.init(), np.random.default_rng(0)
    >>> first = encoder.draw(state, rng)
    >>> state, _ = encoder.update(state, (), first)
    >>> second = encoder.draw(state, rng)
    >>> float(np.corrcoef(first["steps"][0], second["steps"][0])[0, 1]) < -0.3
    True
    """

    def __init__(
        self,
        noise_multiplier: float,
        bands: int | None = None,
        coefficients: Sequence[float] | None = None,
    ):
        super().__init__(noise_multiplier)
        if (bands is None) == (coefficients is None):
            raise ValueError(
                "Give either `bands` or `coefficients`. Received: "
                f"bands={bands!r}, coefficients={coefficients!r}."
            )
        if bands is not None:
            checks.whole("bands", bands)
        self.coefficients = _checked(
            coefficients if bands is None else square_root_coefficients(bands)
        )

    @property
    def bands(self) -> int:
        """How many rounds a client has to be apart."""
        return len(self.coefficients)

    def init(self) -> Any:
        # The last round comes first. As whole numbers of steps: the noise of
        # a round is made of what was added in those before it.
        count = self.bands - 1
        last = [
            ops.zeros((count, *s.shape), noise_grid.steps_dtype(s))
            for s in self.spec
        ]
        return {"last": last}

    def draw(self, state: Any, rng: np.random.Generator) -> Any:
        first, *rest = self.coefficients
        steps = []
        for last in map(ops.convert_to_numpy, state["last"]):
            noise = noise_grid.draw(last.shape[1:], rng)
            for c, x in zip(rest, last, strict=True):
                noise -= c / noise_grid.STEPS_PER_DEVIATION * x
            steps.append(noise_grid.to_steps(noise / first, last.dtype.name))
        return {"steps": steps}

    def update(self, state: Any, stats: Any, noise: Any) -> Updated:
        last = [
            ops.concatenate([steps[None], old])[: self.bands - 1]
            for steps, old in zip(noise["steps"], state["last"], strict=True)
        ]
        return {"last": last}, {}

    def dp_event(self) -> Any:
        """The rounds as a whole, a `fedlearn.privacy.BandedMatrix`."""
        return BandedMatrix(self.noise_multiplier, self.coefficients)

    def get_config(self) -> dict[str, Any]:
        return {
            "noise_multiplier": self.noise_multiplier,
            "coefficients": self.coefficients,
        }


def _checked(coefficients: Any) -> tuple[float, ...]:
    values = np.asarray(coefficients, float)
    if values.ndim != 1 or not values.size or not np.isfinite(values).all():
        raise ValueError(
            "`coefficients` must be a sequence of numbers, c_0 first. "
            f"Received: {coefficients!r}."
        )
    if values[0] == 0 or not _decays(values):
        raise ValueError(
            f"With the coefficients {coefficients!r} noise would grow from "
            "round to round. Positive coefficients that fall, c_0 > c_1 > "
            "..., never do that."
        )
    return tuple(float(c) for c in values)


def _decays(coefficients: np.ndarray) -> bool:
    # C^-1 is the power series of 1 / (c_0 + c_1 x + ...). Its terms go to 0
    # if the polynomial has no root in the closed unit disc, which positive
    # falling coefficients ensure (Enestroem and Kakeya).
    if coefficients[-1] > 0 and (np.diff(coefficients) < 0).all():
        return True
    roots = np.polynomial.polynomial.polyroots(np.trim_zeros(coefficients, "b"))
    return bool((np.abs(roots) > 1 + 1e-6).all())
