"""Every layer of Keras, through one client and through Keras's own `fit`.

Layers that take the same input stand side by side in one model: compiling is
what costs. Random ones, too, must give the same weights, since `fit` gets the
random seeds that the client had.
"""

import inspect
import pathlib

import keras
import numpy as np
import pytest
from keras import layers, ops

import fedlearn as fl
from fedlearn.clients.program import seed_words
from tests import zoo

pytestmark = pytest.mark.conformance

TABLE = pathlib.Path(__file__).parents[2] / "docs" / "layers.md"
N, BATCH = 8, 4


def rng():
    return np.random.default_rng(0)


def normal(*shape):
    return rng().normal(size=(N, *shape)).astype("float32")


def images(size=8):
    return rng().uniform(size=(N, size, size, 3)).astype("float32")


def integers(*shape):
    return rng().integers(0, 4, size=(N, *shape)).astype("int32")


def words(*texts):
    return np.array([[t] for t in texts] * (N // len(texts)), object)


def one(name, **arguments):
    """A branch that is one layer."""
    return name, lambda x: getattr(layers, name)(**arguments)(x)


def pair(name, **arguments):
    """A branch whose layer joins two."""

    def branch(x):
        units = x.shape[-1]
        both = [layers.Dense(units)(x), layers.Dense(units)(x)]
        return getattr(layers, name)(**arguments)(both)

    return name, branch


def cell(name, **arguments):
    return name, lambda x: layers.RNN(getattr(layers, name)(2, **arguments))(x)


def embedded(name, **arguments):
    """A branch whose layer makes numbers of categories."""

    def branch(x):
        return layers.Embedding(8, 2)(getattr(layers, name)(**arguments)(x))

    return name, branch


def by_dimension(dimensions, *names):
    arguments = {
        "Conv": {"filters": 2, "kernel_size": 2},
        "ConvTranspose": {"filters": 2, "kernel_size": 2},
        "Cropping": {"cropping": 1},
        "AveragePooling": {"pool_size": 2},
        "AdaptiveAveragePooling": {"output_size": 2},
        "AdaptiveMaxPooling": {"output_size": 2},
        "SpatialDropout": {"rate": 0.3},
        "DepthwiseConv": {"kernel_size": 2},
        "SeparableConv": {"filters": 2, "kernel_size": 2},
    }
    full = {
        name: (
            f"Conv{dimensions}DTranspose"
            if name == "ConvTranspose"
            else f"{name}{dimensions}D"
        )
        for name in names
    }
    return [one(full[n], **arguments.get(n, {})) for n in names]


POOLED = (
    "Conv",
    "ConvTranspose",
    "AveragePooling",
    "MaxPooling",
    "GlobalAveragePooling",
    "GlobalMaxPooling",
    "AdaptiveAveragePooling",
    "AdaptiveMaxPooling",
    "Cropping",
    "UpSampling",
    "ZeroPadding",
    "SpatialDropout",
)

GROUPS = {
    "vectors": (
        normal(6),
        [
            one("Activation", activation="tanh"),
            one("ELU"),
            one("LeakyReLU"),
            one("PReLU"),
            one("ReLU"),
            one("Softmax"),
            one("Identity"),
            one("Lambda", function=lambda x: 2 * x),
            one("Dense", units=3),
            one("Reshape", target_shape=(2, 3)),
            one("RepeatVector", n=2),
            one("Flatten"),
            one("Rescaling", scale=0.5),
            one("Normalization"),
            one("BatchNormalization"),
            one("LayerNormalization"),
            one("RMSNormalization"),
            one("UnitNormalization"),
            one("GroupNormalization", groups=2),
            one("ActivityRegularization", l2=0.1),
            embedded("Discretization", bin_boundaries=[-1.0, 0.0, 1.0]),
        ],
    ),
    "spectral": (
        normal(6),
        [
            (
                "SpectralNormalization",
                lambda x: layers.SpectralNormalization(layers.Dense(3))(x),
            )
        ],
    ),
    "pairs": (
        normal(6),
        [
            pair("Add"),
            pair("Average"),
            pair("Concatenate"),
            pair("Dot", axes=1),
            pair("Maximum"),
            pair("Minimum"),
            pair("Multiply"),
            pair("Subtract"),
        ],
    ),
    "noise": (
        normal(6),
        [
            one("Dropout", rate=0.3),
            one("AlphaDropout", rate=0.3),
            one("GaussianDropout", rate=0.3),
            one("GaussianNoise", stddev=0.3),
        ],
    ),
    "sequences": (
        normal(5, 4),
        [
            *by_dimension(1, *POOLED, "DepthwiseConv", "SeparableConv"),
            one("Permute", dims=(2, 1)),
            (
                "Masking",
                lambda x: layers.GlobalAveragePooling1D()(
                    layers.Masking()(layers.ReLU(threshold=0.5)(x))
                ),
            ),
            one(
                "EinsumDense",
                equation="abc,cd->abd",
                output_shape=(5, 2),
                bias_axes="d",
            ),
            pair("Attention", dropout=0.2),
            pair("AdditiveAttention", dropout=0.2),
            (
                "MultiHeadAttention",
                lambda x: layers.MultiHeadAttention(2, 2, dropout=0.2)(x, x),
            ),
            (
                "GroupedQueryAttention",
                lambda x: layers.GroupQueryAttention(2, 2, 1)(x, x),
            ),
        ],
    ),
    "recurrent": (
        normal(3, 4),
        [
            one("GRU", units=2, dropout=0.2),
            one("LSTM", units=2, recurrent_dropout=0.2),
            one("SimpleRNN", units=2),
            cell("GRUCell"),
            cell("LSTMCell", dropout=0.2),
            cell("SimpleRNNCell"),
            (
                "StackedRNNCells",
                lambda x: layers.RNN(
                    layers.StackedRNNCells(
                        [layers.SimpleRNNCell(2), layers.SimpleRNNCell(2)]
                    )
                )(x),
            ),
            (
                "Bidirectional",
                lambda x: layers.Bidirectional(layers.SimpleRNN(2))(x),
            ),
            (
                "TimeDistributed",
                lambda x: layers.TimeDistributed(layers.BatchNormalization())(
                    x
                ),
            ),
        ],
    ),
    "video 1": (normal(2, 4, 2), [one("ConvLSTM1D", filters=2, kernel_size=2)]),
    "video 2": (
        normal(2, 3, 3, 2),
        [one("ConvLSTM2D", filters=2, kernel_size=2, dropout=0.2)],
    ),
    "video 3": (
        normal(2, 2, 2, 2, 2),
        [one("ConvLSTM3D", filters=2, kernel_size=2)],
    ),
    "images": (
        images(5),
        by_dimension(2, *POOLED, "DepthwiseConv", "SeparableConv"),
    ),
    "volumes": (normal(4, 4, 4, 2), by_dimension(3, *POOLED)),
    "pictures": (
        images(),
        [
            one("CenterCrop", height=3, width=3),
            one("Resizing", height=3, width=3),
            one("AutoContrast", value_range=(0, 1)),
            one("Equalization", value_range=(0, 1)),
            one("Solarization", value_range=(0, 1)),
            one("RandomBrightness", factor=0.5, value_range=(0, 1)),
            one("RandomColorDegeneration", factor=0.5, value_range=(0, 1)),
            one("RandomContrast", factor=0.5),
            one("RandomFlip"),
            one("RandomGrayscale"),
            one("RandomHue", factor=0.5, value_range=(0, 1)),
            one("RandomInvert", value_range=(0, 1)),
            one("RandomPosterization", factor=4, value_range=(0, 1)),
            one("RandomSaturation", factor=0.5, value_range=(0, 1)),
            one("RandomSharpness", factor=0.5, value_range=(0, 1)),
            (
                "Pipeline",
                lambda x: layers.Pipeline(
                    [layers.Rescaling(0.5), layers.RandomFlip()]
                )(x),
            ),
        ],
    ),
    "moved pictures": (
        images(),
        [
            one("RandomCrop", height=8, width=8),
            one("RandomErasing", value_range=(0, 1)),
            one("RandomGaussianBlur", value_range=(0, 1)),
            one("RandomPerspective"),
            one("RandomRotation", factor=0.3),
            one("RandomShear", x_factor=0.3, y_factor=0.3),
            one("RandomTranslation", height_factor=0.3, width_factor=0.3),
            one("RandomZoom", height_factor=0.3),
            one("MixUp"),
            one("CutMix"),
            one(
                "RandomColorJitter",
                value_range=(0, 1),
                brightness_factor=0.2,
                contrast_factor=0.2,
                saturation_factor=0.2,
                hue_factor=0.2,
            ),
        ],
    ),
    "equalized pictures": (
        images(16),
        [
            one(
                "ContrastLimitedAdaptiveHistogramEqualization",
                value_range=(0, 1),
            )
        ],
    ),
    "augmented pictures": (
        images(),
        [one("RandAugment", value_range=(0, 1), num_ops=1)],
    ),
    "categories": (
        integers(3),
        [
            one("Embedding", input_dim=4, output_dim=2),
            one("CategoryEncoding", num_tokens=4, output_mode="multi_hot"),
            (
                "ReversibleEmbedding",
                lambda x: (lambda both: both(both(x), reverse=True))(
                    layers.ReversibleEmbedding(4, 2)
                ),
            ),
        ],
    ),
    "hashed categories": (
        integers(3),
        [
            embedded("Hashing", num_bins=4),
            embedded("IntegerLookup", vocabulary=[1, 2, 3]),
            (
                "HashedCrossing",
                lambda x: layers.HashedCrossing(4, output_mode="one_hot")(
                    (x[:, :1], x[:, 1:2])
                ),
            ),
        ],
    ),
    "sound": (
        normal(64),
        [
            (
                "STFTSpectrogram",
                lambda x: layers.STFTSpectrogram(
                    frame_length=16, frame_step=8, fft_length=16
                )(x[..., None]),
            ),
            (
                "MelSpectrogram",
                lambda x: layers.Rescaling(0.01)(
                    layers.MelSpectrogram(
                        fft_length=16,
                        sequence_stride=8,
                        num_mel_bins=4,
                        sampling_rate=1000,
                        max_freq=400,
                    )(x)
                ),
            ),
        ],
    ),
    "words": (
        words("a b", "b c"),
        [
            embedded("StringLookup", vocabulary=["a b"]),
            embedded(
                "TextVectorization",
                vocabulary=["a", "b"],
                output_sequence_length=2,
            ),
        ],
    ),
}

ON_TENSORFLOW = {
    "words": ("StringLookup", "TextVectorization"),
    "hashed categories": ("Hashing", "HashedCrossing", "IntegerLookup"),
}
"""Groups of layers that compute with TensorFlow on any backend."""

DIFFERENT = {
    "AugMix": (
        "It chooses operations with Python's `random`, once when it is traced."
    ),
    "RandomElasticTransform": (
        "Where the length of a batch isn't known when it is traced, Keras "
        "gives all images of the batch one distortion."
    ),
}
"""Layers that can't equal another run of themselves, in Keras either."""

ON_JAX = (
    # Statistics, a state that stays, one that is assigned, a loss of its own.
    "BatchNormalization",
    "Normalization",
    "SpectralNormalization",
    "ActivityRegularization",
    # Random seeds, one for a batch and one for each image.
    "Dropout",
    "RandomBrightness",
    "RandomFlip",
    "Pipeline",
    # Several inputs, masks, loops.
    "MultiHeadAttention",
    "Masking",
    "LSTM",
    "TimeDistributed",
    # Gradients of their own kind.
    "Conv2D",
    "SpatialDropout2D",
    "Embedding",
    # Refused there.
    *ON_TENSORFLOW["words"],
)
"""One for each thing that a client does for layers.

All others differ in Keras's code alone, which JAX compiles for minutes.
"""

NOT_HELD = {
    "Layer": "abstract",
    "Wrapper": "abstract",
    "InputSpec": "not a layer",
    "InputLayer": "in every model here",
    "RNN": "around every cell here",
    "MaxNumBoundingBoxes": "changes boxes beside images, in a data pipeline",
    "FlaxLayer": "needs Flax",
    "JaxLayer": "a JAX function, on JAX only",
    "TFSMLayer": "a SavedModel, on TensorFlow only, not trained",
    "TorchModuleWrapper": "needs PyTorch",
}


def on_jax(branches):
    return [(name, branch) for name, branch in branches if name in ON_JAX]


def model_of(group):
    x, branches = GROUPS[group]
    if keras.backend.backend() == "jax":
        branches = on_jax(branches)
    dtype = "string" if x.dtype == object else x.dtype.name
    inputs = keras.Input(x.shape[1:], dtype=dtype)
    outputs = []
    for _, branch in branches:
        y = branch(inputs)
        if not keras.backend.is_float_dtype(y.dtype):
            y = ops.cast(y, "float32")
        y = layers.Flatten()(y) if len(y.shape) > 2 else y
        outputs.append(layers.Dense(1)(y))
    merged = outputs[0] if len(outputs) == 1 else layers.Add()(outputs)
    model = keras.Model(inputs, merged)
    zoo.set_weights(model)
    for layer in model.layers:
        if isinstance(layer, layers.Normalization):
            layer.adapt(3 * x + 1)
    model.compile(keras.optimizers.SGD(0.01), loss="mse")
    return model, (x, normal(1)), len(branches)


def process_of(model, executor="sequential"):
    return fl.FederatedAveraging(
        model,
        client=fl.LocalTraining(batch_size=BATCH, shuffle=False),
        executor=executor,
    )


def give_seeds(process, state, client_id):
    """Sets the random seeds of the model to those that a client starts with."""
    functional = process.functional_model
    words = seed_words(process.client_seed(state, client_id))
    start = functional.start(
        state.trainable, state.non_trainable, ops.convert_to_tensor(words)
    )
    variables = functional.model.non_trainable_variables
    for i, value in zip(functional.roles.local, start.local, strict=True):
        variables[i].assign(value)


# Keras's MixUp and CutMix ask JAX for int64.
@pytest.mark.filterwarnings("ignore:.*Explicitly requested dtype int64")
@pytest.mark.parametrize(
    "group",
    [
        pytest.param(
            name,
            marks=[] if on_jax(branches) else [pytest.mark.backend_free],
        )
        for name, (_, branches) in GROUPS.items()
    ],
)
def test_one_client_equals_fit(group):
    model, data, num_branches = model_of(group)
    if group in ON_TENSORFLOW and keras.backend.backend() != "tensorflow":
        # Keras's own `fit` raises, and doesn't say why.
        with pytest.raises(ValueError, match=r"with TensorFlow.*dataset\.map"):
            process_of(model)
        return
    process = process_of(model)
    state, metrics = process.next(process.initialize(), [data])
    give_seeds(process, process.initialize(), "0")
    before = zoo.weights_of(model)
    x, y = data
    if x.dtype == object:
        x = ops.convert_to_tensor(x.astype(str).tolist())
    expected = zoo.fit(model, (x, y), batch_size=BATCH, shuffle=False)
    paths = [
        v.path for v in model.variables if keras.backend.is_float_dtype(v.dtype)
    ]
    found, wanted = zoo.weights_in(process, state), zoo.weights_of(model)
    for path, a, b in zip(paths, found, wanted, strict=True):
        np.testing.assert_allclose(a, b, 1e-4, 1e-5, err_msg=path)
    assert metrics["loss"] == pytest.approx(expected["loss"], rel=1e-4)
    # All branches have learned something.
    last = [
        np.abs(a - b).max()
        for path, a, b in zip(paths, before, wanted, strict=True)
        if path.endswith("/bias") and a.shape == (1,)
    ]
    assert len(last) >= num_branches
    assert min(last) > 1e-6


def picture_model(name):
    arguments = {}
    layer = getattr(layers, name)
    if "value_range" in inspect.signature(layer).parameters:
        arguments["value_range"] = (0, 1)
    model = keras.Sequential(
        [
            keras.Input((8, 8, 3)),
            layer(**arguments),
            layers.Flatten(),
            layers.Dense(1),
        ]
    )
    model.compile(keras.optimizers.SGD(0.01), loss="mse")
    return zoo.set_weights(model)


class Shaken(layers.Layer):
    def call(self, x, training=False):
        return x + keras.random.normal((3,)) if training else x


def test_randomness_that_no_client_could_keep_is_refused():
    model = keras.Sequential([keras.Input((3,)), Shaken(), layers.Dense(1)])
    model.compile("sgd", loss="mse")
    process = process_of(model)
    # On JAX Keras itself says so, in `fit` as well.
    with pytest.raises(ValueError, match=r"SeedGenerator|seeded random ops"):
        process.next(process.initialize(), [zoo.line(4)])


def test_every_layer_is_somewhere():
    held = {name for _, branches in GROUPS.values() for name, _ in branches}
    known = {*held, *DIFFERENT, *NOT_HELD}
    classes = {
        id(value): value.__name__
        for name, value in vars(layers).items()
        if isinstance(value, type)
    }
    assert set(classes.values()) <= known
    assert known <= set(classes.values())


def test_the_documentation_has_the_table():
    text = TABLE.read_text()
    only = [name for names in ON_TENSORFLOW.values() for name in names]
    for name in (*only, *DIFFERENT, *NOT_HELD):
        assert f"| `{name}` |" in text, name
    for name, why in DIFFERENT.items():
        assert why in text, name


def agree(model, data):
    """That an `auto` process does what a sequential one does."""
    clients = [data] * 6
    auto = process_of(model, "auto")
    state, metrics = auto.next(auto.initialize(), clients)
    plain = process_of(model)
    expected, expected_metrics = plain.next(plain.initialize(), clients)
    zoo.assert_close(
        zoo.weights_in(auto, state), zoo.weights_in(plain, expected)
    )
    assert metrics["loss"] == pytest.approx(expected_metrics["loss"], rel=1e-4)


@pytest.mark.skipif(
    keras.backend.backend() != "tensorflow",
    reason="TensorFlow's vectorized_map is what can't",
)
@pytest.mark.parametrize("name", ["RandAugment", "RandomFlip"])
def test_auto_never_vectorizes_what_changes_images(name):
    agree(picture_model(name), (images()[:BATCH], normal(1)[:BATCH]))


def test_auto_goes_on_one_by_one_where_lanes_fail():
    """A loss of one's own that can't be mapped over clients."""

    def picky(y_true, y_pred):
        if any("vectorized.py" in frame.filename for frame in inspect.stack()):
            raise NotImplementedError("not in lanes, please")
        return ops.mean(ops.square(y_true - y_pred), axis=-1)

    model = zoo.regression()
    model.compile(keras.optimizers.SGD(0.01), loss=picky)
    agree(model, zoo.line(BATCH))
