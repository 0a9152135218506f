"""Federated Averaging and its family."""

from fedlearn.process import LearningProcess


class FederatedAveraging(LearningProcess):
    """Federated Averaging, and with other arguments its family.

    Each client of a round trains the model on its own examples; the server
    moves along the average of the changes.

    * FedAvg (McMahan et al. 2017, "Communication-efficient learning of deep
      networks from decentralized data", algorithm 1): the default.
    * FedSGD (ibid.): `client=LocalTraining(batch_size=n, max_steps=1)` with
      `n` at least the largest client's number of examples.
    * FedOpt (Reddi et al. 2021, "Adaptive federated optimization"): with
      `server_optimizer=fedlearn.optimizers.FedAdam(...)`, `FedYogi` or
      `FedAdagrad`; Keras's `Adam` and `Adagrad` compute something else.
    * FedAvgM (Hsu et al. 2019, "Measuring the effects of non-identical data
      distribution"): `server_optimizer=keras.optimizers.SGD(1.0, 0.9)`.
    * FedProx (Li et al. 2020, "Federated optimization in heterogeneous
      networks"): `client=LocalTraining(proximal=mu)`.

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
