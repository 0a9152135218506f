"""A client's round of a `LearningProcess`, as functions of flat arrays."""

import functools
import io
import os
from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from fedlearn import backend
from fedlearn.core.local_computation import LocalComputation, trace
from fedlearn.core.types import SequenceType, StructType, TensorType, tensors
from fedlearn.executors.executor import ended
from fedlearn.messages.broadcast import Broadcast, Received
from fedlearn.process import LearningProcess
from fedlearn.runs import atomic_file

SEED = TensorType("int32", (2,))


class ClientPlan:
    """What a client does in a round, of what it is sent, has and keeps.

    Structures are lists of arrays here, in the order of `keras.tree.flatten`.

    Args:
        process: Whose clients; it has seen examples, or their `spec`.
        sent: A broadcast, of NumPy arrays, before `to_wire`.

    Attributes:
        sent: The type of a broadcast.
        examples: The type of what a client has.
        kept: The type of what it keeps from round to round.
        like_sums: What it adds to the total.
    """

    def __init__(self, process: LearningProcess, sent: Broadcast):
        self._process, self._program = process, process.program
        self._like_sent, self._like_kept = sent, process.client_state
        self._like_carry: Any = None
        self._no_examples = process.functional_model.no_examples
        self.like_sums = process.empty_update(sent).sums
        self.sent, self.kept = flat_type(sent), flat_type(self._like_kept)
        arrays = keras.tree.map_structure(
            ops.convert_to_tensor, self._no_examples
        )
        elements = [
            TensorType(t.dtype, t.shape[1:]) for t in tensors(flat_type(arrays))
        ]
        names = ("x", "y", "sample_weight")[: len(elements)]
        plain = len(elements) == len(self._no_examples or ())
        self.examples = SequenceType(
            dict(zip(names, elements, strict=True)) if plain else elements
        )

    def received(self, sent: Sequence[Any]) -> Received:
        """A broadcast as a client has it.

        What isn't in it is as it was when the process was made.
        """
        process = self._process
        given: Broadcast = _packed(self._like_sent, sent)
        return Received(
            *process._personal.put_shared(
                *process._initial_values,
                process._download.decode(given.trainable),
                given.statistics,
            ),
            given.learning_rate,
            given.params,
            given.algorithm,
        )

    def whole(
        self, sent: Any, examples: Any, order: Any, seed: Any, kept: Any
    ) -> dict[str, list[Any]]:
        """A round in one: what is added to the total, and what is kept.

        `order` has the positions of the examples of all steps.
        """
        program, received = self._program, self.received(sent)
        before = _packed(self._like_kept, kept)
        data = _packed(self._no_examples, _values(examples))
        size = ops.shape(keras.tree.flatten(data)[0])[0]
        config = program.trainer.config
        passes = [
            (ops.arange(size, dtype="int32"), 1, None),
            (order, config.epochs, config.max_steps),
        ][-len(program.steps) :]
        carry = program.start(received, seed, before)
        for step, pass_ in zip(program.steps, passes, strict=True):
            step = functools.partial(step, received)
            carry = _steps(step, carry, data, program.batch_size, *pass_)
        count = ops.cast(size, "int32")
        sums, after, _ = ended(program, received, carry, count, seed, before)
        return {
            "added": keras.tree.flatten(sums),
            "kept": keras.tree.flatten(after),
        }

    @functools.cached_property
    def functions(self) -> dict[str, LocalComputation]:
        """A round in its parts, by their names; see `save`."""
        program = self._program

        def start(sent, seed, kept):
            before = _packed(self._like_kept, kept)
            carry = program.start(self.received(sent), seed, before)
            self._like_carry = keras.tree.map_structure(lambda _: 0, carry)
            return keras.tree.flatten(carry)

        def finish(sent, carry, num_examples, seed, kept):
            return keras.tree.flatten(
                program.send(
                    self.received(sent),
                    _packed(self._like_carry, carry),
                    num_examples,
                    seed,
                    _packed(self._like_kept, kept),
                )
            )

        def step_of(step: Callable, name: str) -> LocalComputation:
            def taken(sent, carry, batch):
                carry = _packed(self._like_carry, carry)
                batch = _packed(self._no_examples, _values(batch))
                return keras.tree.flatten(
                    step(self.received(sent), carry, batch)
                )

            taken.__name__ = name
            return traced(taken, carry=carry, batch=self.examples)

        def traced(fn: Callable, **types: Any) -> LocalComputation:
            return trace(fn, StructType({"sent": self.sent, **types}), True)

        first = traced(start, seed=SEED, kept=self.kept)
        carry, count = first.type.result, TensorType("int32")
        last = {"num_examples": count, "seed": SEED, "kept": self.kept}
        names = ("look", "step")[-len(program.steps) :]
        return {
            "start": first,
            **{
                n: step_of(s, n)
                for n, s in zip(names, program.steps, strict=True)
            },
            "finish": traced(finish, carry=carry, **last),
        }

    def save(self, path: str | os.PathLike[str]) -> None:
        """Writes `functions` to a `.npz` file, each as bytes.

        On JAX these are of `jax.export`, and a client needs neither Keras nor
        fedlearn. `sent` are the arrays of `broadcast.sent`, `seed` is that of
        the client in two words, and `batches` are its examples::

            start, step, finish = (
                jax.export.deserialize(bytearray(f)).call
                for f in numpy.load(path).values()
            )
            carry = start(*sent, seed, *kept)
            for x, y in batches:
                carry = step(*sent, *carry, x, y)
            sent_back = finish(*sent, *carry, num_examples, seed, *kept)

        What is sent back are the arrays of a `Message`, then what is kept.
        Where an algorithm looks at the examples first, `look`, which takes
        what `step` does, comes before `step`.
        """
        file = io.BytesIO()
        blobs = {n: fn.artifact("") for n, fn in self.functions.items()}
        arrays = {n: np.frombuffer(b, np.uint8) for n, b in blobs.items()}
        np.savez_compressed(file, **arrays)  # type: ignore[arg-type]
        atomic_file.write(path, file.getvalue())

    def save_litert(self, path: str | os.PathLike[str]) -> None:
        """Writes `functions` to a file of LiteRT, on TensorFlow.

        Each is a signature. Arguments and results have the names of what is
        above and numbers, so that what one gives is given to the next::

            carry = start(**sent, seed_0=seed)
            for x, y in batches:
                carry = step(**sent, **carry, batch_0=x, batch_1=y)
            message = finish(
                **sent, **carry, num_examples_0=num_examples, seed_0=seed
            )

        `sent` has the arrays of `broadcast.sent` as `sent_0` and so on;
        `message_0` and so on are what is sent back, then what is kept.

        Raises:
            ValueError: If LiteRT has no operator for something in it, such as
                convolutions and random numbers; or on JAX.
        """
        if backend.name != "tensorflow":
            raise ValueError(
                "LiteRT takes graphs of TensorFlow. Set the environment "
                "variable KERAS_BACKEND=tensorflow; a file of JAX is `save`'s."
            )
        from fedlearn.core import litert

        named = {}
        for name, fn in self.functions.items():
            parts: Any = fn.type.parameter
            types = {
                f"{part}_{i}": t
                for part, of_part in parts.items()
                for i, t in enumerate(tensors(of_part))
            }
            count = len(tensors(fn.type.result))
            what = "message" if name == "finish" else "carry"
            results = [f"{what}_{i}" for i in range(count)]
            named[name] = functools.partial(fn.run, ()), types, results
        atomic_file.write(path, litert.convert(named))


def flat_type(tree: Any) -> StructType:
    """The type of the list of a pytree's arrays."""
    return StructType(
        [
            TensorType(keras.backend.standardize_dtype(a.dtype), a.shape)
            for a in keras.tree.flatten(tree)
        ]
    )


def _packed(like: Any, arrays: Sequence[Any]) -> Any:
    return keras.tree.pack_sequence_as(like, list(arrays))


def _values(examples: Any) -> Any:
    return examples.values() if isinstance(examples, dict) else examples


def _steps(
    step: Callable,
    carry: Any,
    data: Any,
    batch_size: int,
    order: Any,
    epochs: int,
    most: int | None,
) -> Any:
    """Steps along the batches of some epochs, the last of each shorter.

    Which is shorter is told by lengths, which clients in lanes have in common:
    they branch together.
    """
    size = ops.shape(keras.tree.flatten(data)[0])[0]
    an_epoch = (size + batch_size - 1) // batch_size
    num_steps = epochs * an_epoch
    if most is not None:
        num_steps = ops.minimum(num_steps, most)
    # So that a whole batch can be cut out anywhere.
    order = ops.concatenate([order, ops.zeros(batch_size, "int32")])

    def body(number, carry):
        start = number % an_epoch * batch_size
        first = number // an_epoch * size + start

        def of(length):
            rows = ops.slice(order, (first,), (length,))
            batch = keras.tree.map_structure(
                lambda a: ops.take(a, rows, axis=0), data
            )
            return step(carry, batch)

        return ops.cond(
            start + batch_size <= size,
            lambda: of(batch_size),
            lambda: of(size % batch_size),
        )

    return backend.loop(num_steps, body, carry)
