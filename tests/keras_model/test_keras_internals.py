"""Which private names of Keras are used, where, and whether Keras has them."""

import ast
import pathlib

import keras
import numpy as np
import pytest

import fedlearn
from fedlearn import backend

PACKAGE = pathlib.Path(fedlearn.__file__).parent
ALLOWED = {"keras_model/keras_internals.py", "optimizers/functional.py"}
# Of other libraries, and of Python.
FOREIGN = {
    "_asdict",
    "_exit",
    "_field_defaults",
    "_fields",
    "_getframe",
    "_make",
    "_omit_frequent_tracing_warning",
    "_private",
    "_replace",
}


def _private(name):
    return name.startswith("_") and not name.startswith("__")


def _used(tree):
    """Private attributes that are read, and of what: `(owner, name)`."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and _private(node.attr):
            yield ast.unparse(node.value), node.attr
        elif (
            isinstance(node, ast.Call)
            and isinstance(node.func, ast.Name)
            and node.func.id in ("getattr", "hasattr", "setattr")
            and isinstance(node.args[1], ast.Constant)
            and _private(str(node.args[1].value))
        ):
            yield ast.unparse(node.args[0]), node.args[1].value


def _defined(tree):
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            yield node.name
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.id
        elif (
            isinstance(node, ast.Attribute)
            and isinstance(node.ctx, ast.Store)
            and ast.unparse(node.value) == "self"
        ):
            yield node.attr


TREES = {
    path.relative_to(PACKAGE).as_posix(): ast.parse(path.read_text("utf-8"))
    for path in PACKAGE.rglob("*.py")
}
OWN = {
    name
    for file, tree in TREES.items()
    if file not in ALLOWED
    for name in _defined(tree)
}


def _model():
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    model.compile("sgd", "mse", metrics=["mae", "cosine_similarity"])
    model.evaluate(np.zeros((2, 2)), np.zeros((2, 1)), verbose=0)
    return model


def _optimizer(cls=keras.optimizers.SGD, *args):
    optimizer = cls(*args)
    optimizer.exclude_from_weight_decay(var_names=["bias"])
    optimizer.build([keras.Variable([1.0])])
    return optimizer


def _multi():
    by_path = keras.optimizers.OptimizerMap(keras.optimizers.SGD())
    return keras.optimizers.MultiOptimizer(by_path)


# An object that has each of them.
WHERE = {
    "model": (_model, ["_compile_config", "_compile_loss", "_compile_metrics"]),
    "a model": (_model, ["_flatten_layers", "_loss_tracker"]),
    "layer": (
        lambda: keras.layers.Dropout(0.5),
        ["_trainable_variables", "_non_trainable_variables"],
    ),
    "layer with a generator": (
        lambda: keras.layers.Dropout(0.5),
        ["_seed_generators"],
    ),
    "called layer": (lambda: _model().layers[0], ["_inbound_nodes"]),
    "symbolic tensor": (lambda: keras.Input((2,)), ["_keras_history"]),
    "compiled loss": (
        lambda: _model()._compile_loss,
        ["_flat_losses", "_y_pred_build_structure", "_y_true_build_structure"],
    ),
    "metric": (keras.metrics.Mean, ["_metrics", "_variables"]),
    "metric of a function": (
        lambda: keras.metrics.CosineSimilarity(axis=1),
        ["_direction", "_fn_kwargs"],
    ),
    "loss of a function": (
        lambda: keras.losses.CosineSimilarity(axis=1),
        ["_fn_kwargs"],
    ),
    "optimizer": (
        _optimizer,
        [
            "_apply_weight_decay",
            "_backend_update_step",
            "_clip_by_norm",
            "_exclude_from_weight_decay",
            "_exclude_from_weight_decay_pattern",
            "_get_variable_index",
            "_learning_rate",
            "_trainable_variables",
            "_use_weight_decay",
            "_var_key",
        ],
    ),
    "ScheduleFreeAdamW": (
        lambda: _optimizer(keras.optimizers.ScheduleFreeAdamW),
        ["_momentums"],
    ),
    "MultiOptimizer": (_multi, ["_optimizer_map"]),
}


@pytest.mark.parametrize(
    ("owner", "name"),
    [(owner, name) for owner, (_, names) in WHERE.items() for name in names],
)
def test_keras_has_the_private_name(owner, name):
    make, _ = WHERE[owner]
    assert hasattr(make(), name), (
        f"Keras {keras.__version__} has no {name} any more, which fedlearn "
        f"uses of {owner}. See {' and '.join(sorted(ALLOWED))}."
    )


def test_the_rest_that_is_told_by_names_of_keras():
    assert "BaseOptimizer" in {
        cls.__name__ for cls in keras.optimizers.Optimizer.__mro__
    }
    inputs = keras.Input((2,))
    assert type(keras.Model(inputs, inputs)).__name__ == "Functional"
    assert ".image_preprocessing." in keras.layers.RandomFlip.__module__
    (seed,) = keras.layers.Dropout(0.5).non_trainable_variables
    assert seed.name == "seed_generator_state"


@pytest.mark.backend_free
def test_private_names_of_keras_are_in_two_files():
    listed = {name for _, names in WHERE.values() for name in names}
    found = {file: set(_used(tree)) for file, tree in TREES.items()}
    in_use = {
        name
        for file in ALLOWED
        for owner, name in found[file]
        if name not in set(_defined(TREES[file]))
        or owner not in ("self", "functional")
    }
    assert in_use - listed == set()
    assert listed - in_use == set()
    elsewhere = {
        (file, name)
        for file, used in found.items()
        if file not in ALLOWED
        for owner, name in used
        if name not in FOREIGN
        and (name not in OWN or (name in listed and owner != "self"))
    }
    assert elsewhere == set()


@pytest.mark.skipif(
    keras.backend.backend() != "tensorflow", reason="TensorFlow's own names"
)
@pytest.mark.parametrize("name", ["Bitcast", "L2Loss"])
def test_tensorflow_has_the_private_names_of_its_backend(name):
    import tensorflow as tf
    from tensorflow.python.ops.parallel_for import pfor

    assert hasattr(tf.function(abs), "_omit_frequent_tracing_warning")
    assert {"RegisterPFor", "wrap"} <= set(vars(pfor))
    # Without the rules of `fedlearn.backend` it would loop over the rows.
    assert backend.name == "tensorflow"
    operation = {
        "Bitcast": lambda x: tf.bitcast(x, tf.int32),
        "L2Loss": tf.nn.l2_loss,
    }[name]
    rows = tf.reshape(tf.range(6.0), (3, 2))
    found = tf.vectorized_map(operation, rows, fallback_to_while_loop=False)
    expected = [operation(row).numpy() for row in rows]
    np.testing.assert_array_equal(found, expected)
