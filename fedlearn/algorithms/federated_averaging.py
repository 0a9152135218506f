from fedlearn.process import LearningProcess


class FederatedAveraging(LearningProcess):
    """Federated Averaging, also as `algorithms.FedAvg`.

    Each client of a round trains the model on its own examples; the server
    moves along the average of the changes (McMahan et al. 2017,
    "Communication-efficient learning of deep networks from decentralized
    data", algorithm 1, https://arxiv.org/abs/1602.05629). The paper's FedSGD
    is `client=LocalTraining(batch_size=n, max_steps=1)` with `n` at least the
    largest client's number of examples. `fedlearn.algorithms` has its family.

    Args:
        model: A compiled `keras.Model` with weights; it is only read until
            `fit` is done.
        client: What a client computes: a `LocalTraining`, or `"fedavg"`,
            `"fedprox"` or `"fedprox:0.01"`; None for `LocalTraining()`, one
            epoch in batches of 32 with the compiled optimizer.
        server_optimizer: A Keras optimizer, or a name such as `"fedadam"` or
            `"sgd:0.5"` (see `optimizers.get`); None for SGD with learning
            rate 1, which adds the average.
        aggregator: An aggregator, or a name such as `"median"` or
            `"trimmed_mean:0.1"` (see `aggregators.get`); None for
            `aggregators.Mean(encoders=(), weighting="num_examples")`.
        executor: How clients are run: `"auto"`, `"sequential"`,
            `"vectorized"`, or an instance.
        broadcast_encoders: Compression of the download, such as
            `[fedlearn.encoders.UniformQuantization(8)]` or `"uniform:8"`.
        privacy: Of a private run: `fedlearn.privacy.Privacy(delta=...,
            secure_noise=..., private_metrics=...)`.

    Raises:
        ValueError: If the model isn't compiled, has no weights, overrides
            `train_step`, or has a metric that can't be merged.

    Example:

    >>> import keras, numpy as np
    >>> import fedlearn as fl
    >>> model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    >>> model.compile(optimizer=keras.optimizers.SGD(0.1), loss="mse")
    >>> process = fl.FederatedAveraging(model)
    >>> state = process.initialize(seed=0)
    >>> client = (np.ones((4, 2), "float32"), np.ones((4, 1), "float32"))
    >>> state, metrics = process.next(state, [client, client])
    >>> int(metrics["num_clients"]), int(metrics["num_examples"])
    (2, 8)
    """


FedAvg = FederatedAveraging
