"""Strings that stand for objects, in arguments and on the command line.

A table a kind. It is kept apart from the classes, which bring in a backend:
the command line prints help without one.
"""

from fedlearn.recipe import Recipe

_AGGREGATORS = "fedlearn.aggregators:"
_ATTACKS = "fedlearn.attacks:"
_CLIENT = "fedlearn.clients:LocalTraining"
_ENCODERS = "fedlearn.encoders:"
_KERAS = "keras.optimizers:"
_OPTIMIZERS = "fedlearn.optimizers:"
_RATE = ("learning_rate",)

AGGREGATORS = {
    "mean": Recipe(_AGGREGATORS + "Mean"),
    "median": Recipe(_AGGREGATORS + "Median"),
    "trimmed_mean": Recipe(
        _AGGREGATORS + "TrimmedMean", ("fraction",), num_required=1
    ),
    "krum": Recipe(
        _AGGREGATORS + "Krum",
        ("num_byzantine", "num_selected"),
        num_required=1,
    ),
    "bulyan": Recipe(
        _AGGREGATORS + "Bulyan", ("num_byzantine",), num_required=1
    ),
    "geometric_median": Recipe(_AGGREGATORS + "GeometricMedian"),
    "centered_clipping": Recipe(
        _AGGREGATORS + "CenteredClipping", ("tau", "num_iterations")
    ),
    "norm_bounding": Recipe(_AGGREGATORS + "NormBounding", ("norm",)),
    "outlier_removal": Recipe(_AGGREGATORS + "OutlierRemoval", ("factor",)),
    "secure_sum": Recipe(
        _AGGREGATORS + "SecureSum", ("value_range", "bits"), num_required=1
    ),
}

ATTACKS = {
    "gaussian_noise": Recipe(
        _ATTACKS + "GaussianNoise", ("stddev",), num_required=1
    ),
    "inner_product": Recipe(
        _ATTACKS + "InnerProduct", ("epsilon",), num_required=1
    ),
    "little_is_enough": Recipe(_ATTACKS + "LittleIsEnough", ("z",)),
    "scaling": Recipe(_ATTACKS + "Scaling", ("factor",), num_required=1),
    "sign_flip": Recipe(_ATTACKS + "SignFlip", ("scale",)),
}

CLIENTS = {
    "fedavg": Recipe(_CLIENT),
    "fedprox": Recipe(_CLIENT, ("proximal",), options=(("proximal", 0.1),)),
}

ENCODERS = {
    "float16": Recipe(_ENCODERS + "Cast", options=(("dtype", "float16"),)),
    "bfloat16": Recipe(_ENCODERS + "Cast", options=(("dtype", "bfloat16"),)),
    "uniform": Recipe(_ENCODERS + "UniformQuantization", ("bits",)),
    "qsgd": Recipe(
        _ENCODERS + "StochasticQuantization", ("levels", "bucket_size")
    ),
    "eden": Recipe(_ENCODERS + "Eden", ("bits",)),
    "drive": Recipe(_ENCODERS + "Drive"),
    "sign": Recipe(_ENCODERS + "SignSGD"),
    "terngrad": Recipe(_ENCODERS + "TernGrad", ("clip_deviations",)),
    "topk": Recipe(_ENCODERS + "TopK", ("fraction",), num_required=1),
    "mask": Recipe(_ENCODERS + "RandomMask", ("fraction",), num_required=1),
    "powersgd": Recipe(_ENCODERS + "PowerSGD", ("rank",)),
    "rotation": Recipe(_ENCODERS + "HadamardRotation"),
    "huffman": Recipe(
        _ENCODERS + "EntropyCoding", options=(("method", "huffman"),)
    ),
    "range": Recipe(
        _ENCODERS + "EntropyCoding", options=(("method", "range"),)
    ),
    "deflate": Recipe(
        _ENCODERS + "EntropyCoding", options=(("method", "deflate"),)
    ),
}

OPTIMIZERS = {
    "sgd": Recipe(_KERAS + "SGD", _RATE),
    "adam": Recipe(_KERAS + "Adam", _RATE),
    "adamw": Recipe(_KERAS + "AdamW", _RATE),
    "adagrad": Recipe(_KERAS + "Adagrad", _RATE),
    "adadelta": Recipe(_KERAS + "Adadelta", _RATE),
    "adamax": Recipe(_KERAS + "Adamax", _RATE),
    "nadam": Recipe(_KERAS + "Nadam", _RATE),
    "rmsprop": Recipe(_KERAS + "RMSprop", _RATE),
    "lion": Recipe(_KERAS + "Lion", _RATE),
    "yogi": Recipe(_OPTIMIZERS + "Yogi", _RATE),
    "fedadagrad": Recipe(_OPTIMIZERS + "FedAdagrad", _RATE),
    "fedadam": Recipe(_OPTIMIZERS + "FedAdam", _RATE),
    "fedyogi": Recipe(_OPTIMIZERS + "FedYogi", _RATE),
}
