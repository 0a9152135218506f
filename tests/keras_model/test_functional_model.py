"""What a compiled model's metrics report, and from which batches."""

import keras
import numpy as np
import pytest
from keras import layers, ops

import fedlearn as fl
from fedlearn.keras_model.functional_model import FunctionalModel
from tests import zoo


class Absolute(keras.metrics.Metric):
    """Sums of |y_pred|; its result is whatever `form` makes of them."""

    def __init__(self, form, name="absolute"):
        super().__init__(name=name)
        self.form = form
        self.total = self.add_weight((2,), "zeros", name="total")
        self.number = self.add_weight((), "zeros", name="number")

    def update_state(self, y_true, y_pred, sample_weight=None):
        sizes = ops.abs(ops.reshape(y_pred, (-1, 2)))
        self.total.assign_add(ops.sum(sizes, axis=0))
        self.number.assign_add(ops.cast(ops.shape(sizes)[0], "float32"))

    def result(self):
        return self.form(self)


FORMS = {
    "a_variable": (lambda m: m.total, {"absolute_0": 0, "absolute_1": 1}),
    "a_scalar_variable": (lambda m: m.number, {"absolute": 2}),
    "a_dict": (
        lambda m: {"left": m.total[0], "right": m.total[1], "n": m.number},
        {"left": 0, "right": 1, "n": 2},
    ),
    "a_dict_of_arrays": (
        lambda m: {"sums": m.total, "inner": {"n": m.number}},
        {"sums_0": 0, "sums_1": 1, "n": 2},
    ),
    "a_tuple": (
        lambda m: (m.total, m.number),
        {"absolute_0_0": 0, "absolute_0_1": 1, "absolute_1": 2},
    ),
}


def two_outputs(**kwargs):
    model = keras.Sequential([keras.Input((3,)), layers.Dense(2)])
    model.compile(keras.optimizers.SGD(0.0), loss="mse", **kwargs)
    return zoo.set_weights(model)


@pytest.mark.parametrize("form", FORMS)
def test_a_result_of_any_form_is_read_where_it_is_computed(form):
    make, names = FORMS[form]
    model = two_outputs(metrics=[Absolute(make)])
    x, _ = zoo.line(12)
    clients = [(x[:4], np.zeros((4, 2))), (x[4:], np.zeros((8, 2)))]
    process = fl.FederatedAveraging(
        model, client=fl.LocalTraining(batch_size=4), executor="sequential"
    )
    state = process.initialize()
    _, trained = process.next(state, clients)
    evaluated = process.evaluate(state, clients, per_client=True, batch_size=4)

    def sums(rows):
        kernel, bias = zoo.weights_of(model)
        values = np.abs(rows @ kernel + bias).sum(axis=0)
        return [*values, len(rows)]

    for found, rows in (
        (trained, x),
        (evaluated, x),
        (evaluated["per_client"]["0"], x[:4]),
        (evaluated["per_client"]["1"], x[4:]),
    ):
        expected = sums(rows)
        for name, position in names.items():
            assert found[name] == pytest.approx(expected[position], rel=1e-5)
    assert set(names) <= set(process.client_metrics)


def test_two_metrics_with_the_same_keys_keep_both():
    def half(metric):
        return {"n": metric.number / 2}

    def whole(metric):
        return {"n": metric.number}

    model = two_outputs(
        metrics=[Absolute(half, "first"), Absolute(whole, "second")]
    )
    found = fl.evaluate(model, [(np.ones((4, 3)), np.ones((4, 2)))])
    assert (found["n"], found["second_n"]) == (2.0, 4.0)


def test_scales_in_place_of_gradients_are_refused():
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    model.layers[0].quantize("float8")
    model.compile("sgd", "mse")
    with pytest.raises(ValueError, match=r"scale.*isn't trained.*float8"):
        fl.FederatedAveraging(model)


SPEC = (keras.KerasTensor((3,), "float32"), keras.KerasTensor((2,), "float64"))


def test_a_spec_makes_the_variables_that_the_first_examples_would_make():
    make = {"metrics": ["mae", keras.metrics.AUC(num_thresholds=5)]}
    seen, built = (FunctionalModel(two_outputs(**make)) for _ in range(2))
    assert len(built.metrics_variables) == 2  # the loss's: no labels yet
    seen.prepare((np.zeros((6, 3), "float32"), np.zeros((6, 2))), "rome")
    built.build(SPEC)
    shapes = [v.shape for v in seen.metrics_variables]
    assert [v.shape for v in built.metrics_variables] == shapes
    assert len(shapes) > 3
    assert [a.shape for a in built.no_examples] == [(0, 3), (0, 2)]
    variables = list(map(id, built.metrics_variables))
    built.prepare((np.zeros((4, 3), "float32"), np.zeros((4, 2))), "rome")
    assert list(map(id, built.metrics_variables)) == variables


def test_a_spec_that_the_model_cannot_take_is_refused():
    with pytest.raises(ValueError, match=r"`spec`.*input shape is \(None, 3\)"):
        FunctionalModel(two_outputs()).build((SPEC[1], SPEC[1]))


def test_a_client_without_examples_has_the_shapes_of_its_own_cohort():
    model = keras.Sequential([keras.Input((None, 3)), layers.Dense(2)])
    model.compile(loss="mse")
    process = fl.FederatedAveraging(model)
    for length in (5, 7):
        full = (np.zeros((4, length, 3)), np.zeros((4, length, 2)))
        cohort = process.cohort({"rome": ([], []), "oslo": full})
        shapes = [a.shape for a in cohort.read(0).data]
        assert shapes == [(0, length, 3), (0, length, 2)]
