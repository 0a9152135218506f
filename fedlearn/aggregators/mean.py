from typing import Any, Literal, Self

import keras
from keras import ops

from fedlearn import checks
from fedlearn.advice import keras_words
from fedlearn.aggregators.aggregator import Aggregator
from fedlearn.encoders.chain import Encoders
from fedlearn.encoders.encoder import Noise, Spec, Value

_TOO_COARSE = ("float16", "bfloat16")


class Mean(Aggregator):
    """The weighted mean of what clients send.

    With `weighting="num_examples"` this is the average of McMahan et al.
    2017, "Communication-efficient learning of deep networks from
    decentralized data", algorithm 1: client `k` counts as `n_k / n`.

    With a link that adds noise, `weighting="uniform"` and a fixed
    `denominator` are required: a weight or a denominator that depends on the
    data is not hidden by noise that is scaled to one update's norm.
    `fedlearn.aggregators.PrivateMean` puts it all together.

    Args:
        encoders: What happens to an update on its way: encoders, or strings as
            for `fedlearn.encoders.get`; or one string, `"topk:0.01+huffman"`.
        weighting: `"num_examples"`, or `"uniform"`: every client that has
            examples counts the same.
        denominator: What the sum is divided by; None for the sum of the
            weights of the clients that took part.

    Raises:
        ValueError: If an argument is out of its range, if the order of the
            encoders can't work, or if noise would not hide what it should.

    Example:

    >>> mean = Mean().build([keras.KerasTensor((1,))])
    >>> summands = [
    ...     mean.summand(([ops.array([v])], ()), ops.array(n), ())
    ...     for v, n in [(1.0, 3.0), (5.0, 1.0)]
    ... ]
    >>> total = keras.tree.map_structure(lambda a, b: a + b, *summands)
    >>> aggregate, _, _ = mean.finish(mean.init(), total, (), ())
    >>> float(aggregate[0][0])
    2.0
    """

    # An adaptive norm comes of a noisy count; other counts are exact.
    covered_metrics = ("clip_norm",)

    @keras_words.answers(keras_words.PRIVACY)
    def __init__(
        self,
        encoders: Encoders = (),
        weighting: Literal["num_examples", "uniform"] = "num_examples",
        denominator: float | None = None,
    ):
        checks.one_of("weighting", weighting, ("num_examples", "uniform"))
        if denominator is not None:
            meaning = "what the sum is divided by; None for that of weights"
            checks.positive("denominator", denominator, meaning)
        super().__init__(encoders)
        self.weighting = weighting
        self.denominator = denominator
        if self.noise is not None:
            self._check_noise()

    def _check_noise(self) -> None:
        (name,) = (
            type(e).__name__ for e in self.encoders if isinstance(e, Noise)
        )
        if self.weighting != "uniform":
            raise ValueError(
                f"{name} is scaled to the norm of one update, but with "
                "weighting='num_examples' an update counts as often as its "
                "client has examples. Use weighting='uniform'."
            )
        if self.denominator is None:
            raise ValueError(
                f"{name} is scaled to the norm of one update in the sum, but "
                "a denominator that depends on who took part changes with "
                "one client. Give a fixed one: denominator=clients_per_round."
            )

    def build(self, spec: Spec) -> Self:
        for s in spec:
            dtype = keras.backend.standardize_dtype(s.dtype)
            if self.noise is not None and dtype in _TOO_COARSE:
                raise ValueError(
                    f"{type(self).__name__} with noise got updates of {dtype},"
                    " whose sums round by more than the noise is scaled to, "
                    "and clipping them isn't exact either. Expected float32 "
                    'variables: give the model the dtype policy "float32", or '
                    '"mixed_float16" or "mixed_bfloat16" to compute in 16 '
                    "bits."
                )
        return super().build(spec)

    def weight(self, num_examples: Any) -> Any:
        if self.noise == "clients":
            # A client without examples has its share of the noise to add.
            return ops.ones_like(num_examples)
        if self.weighting == "uniform":
            # A client without examples has nothing to say about the mean.
            return ops.cast(num_examples > 0, "float32")
        return num_examples

    def num_counted(self, total: Any, num_clients: Any) -> Any:
        if self.weighting == "uniform":
            num_clients = self.denominator or total["weight"]
        # Clients without examples are nobody only if all are; and whether
        # there was anybody is what noise hides.
        some = (total["weight"] > 0) | (self.noise is not None)
        return ops.where(some, ops.cast(num_clients, "float32"), 0.0)

    def aggregate(self, value: Value, weight: Any) -> Value:
        # Zero where nobody had an example: nothing was learned.
        weight = ops.maximum(weight, 1e-30)
        if self.denominator is not None:
            weight = ops.cast(self.denominator, "float32")
        return [v / ops.cast(weight, v.dtype) for v in value]
