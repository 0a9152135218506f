import keras
import numpy as np

from fedlearn import clients, seeds
from fedlearn.aggregators.mean import Mean
from fedlearn.clients.algorithm import Algorithm
from fedlearn.clients.cohort import Client, Cohort
from fedlearn.clients.local_training import LocalTraining
from fedlearn.clients.personal_variables import PersonalVariables
from fedlearn.clients.program import ClientProgram
from fedlearn.executors.sequential import client_rounds
from fedlearn.keras_model.functional_model import Arrays, FunctionalModel
from fedlearn.messages.broadcast import Received

Weights = tuple[Arrays, Arrays]
"""`(trainable, non_trainable)`, a value for each of the model's variables."""


class FineTuning:
    """Trains at each client before the evaluation there."""

    def __init__(
        self,
        model: keras.Model,
        training: str | LocalTraining,
        algorithm: Algorithm | None = None,
    ):
        training = clients.get(training)
        algorithm = algorithm or Algorithm()
        self.model = FunctionalModel(
            model, frozen_statistics=training.statistics == "frozen"
        )
        self._variables = PersonalVariables(
            self.model,
            None,
            keeps_statistics=True,
            is_temporary=algorithm.temporary_variables(model),
        )
        trainer = training.build(self.model, algorithm, self._variables)
        program = ClientProgram(trainer, Mean().build(self._variables.spec))
        self._train = client_rounds(
            program, lambda broadcast, carry, *_: carry.variables
        )
        rate = trainer.optimizer.scheduled_rate(0)
        self._rate = () if rate is None else np.asarray(rate, np.float32)

    def __call__(
        self, client: Client, weights: Weights, data: Cohort | None
    ) -> tuple[Weights, tuple]:
        """A client's weights after training, and the examples for evaluation.

        It trains on what it has in `data`; if None, on half of its examples,
        which aren't evaluated on. Without any it keeps the weights.
        """
        examples, rest = _split(client, data)
        if not examples.num_examples:
            return weights, rest
        trainable, non_trainable = weights
        variables = self._train(
            Received(trainable, non_trainable, self._rate, ()),
            examples,
            seeds.fold("fine_tune", client.id),
        )
        tuned = self._variables.put(
            variables.trainable, non_trainable, variables.state
        )
        return tuned, rest


def _split(client: Client, data: Cohort | None) -> tuple[Client, tuple]:
    """The examples to train on, and those to evaluate on."""
    if data is not None:
        if client.id not in data.ids:
            return client._replace(num_examples=0), client.data
        return data.read(data.ids.index(client.id)), client.data
    order = seeds.permutation(client.num_examples, "fine_tune", client.id)
    half = client.num_examples // 2
    first, second = np.sort(order[:half]), np.sort(order[half:])
    return Client(
        client.id,
        keras.tree.map_structure(lambda a: a[first], client.data),
        half,
    ), keras.tree.map_structure(lambda a: a[second], client.data)
