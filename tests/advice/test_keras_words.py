import inspect

import pytest

import fedlearn as fl
from fedlearn.advice import keras_words
from tests import zoo

DATA = zoo.clients((8, 4), make=zoo.line)


@pytest.mark.parametrize("word", keras_words.FIT)
def test_fit_says_where_a_word_belongs(word):
    process = zoo.regression_process()
    with pytest.raises(TypeError) as error:
        process.fit(DATA, **{word: 3})
    said = f"fit() has no argument `{word}`: {keras_words.FIT[word]}."
    assert str(error.value) == said


def test_the_ways_that_are_named_exist():
    """Every argument that an answer names is one."""
    client = inspect.signature(fl.LocalTraining).parameters
    for word in ("epochs", "batch_size", "shuffle", "max_steps"):
        assert word in client
        assert any(f"{word}=" in text for text in keras_words.FIT.values())
    train, validation = DATA.split_examples(0.8, seed=0)
    assert len(train) == len(validation) == len(DATA)
    fit = inspect.signature(fl.LearningProcess.fit).parameters
    assert {"rounds", "initial_state", "clients_per_round", "data"} <= set(fit)
    for words, function in (
        (keras_words.FIT, fl.LearningProcess.fit),
        (keras_words.EVALUATE, fl.LearningProcess.evaluate),
        (keras_words.PROCESS, fl.FederatedAveraging),
        (keras_words.CLIENT, fl.LocalTraining),
    ):
        # What became an argument needs no answer.
        assert not set(words) & set(inspect.signature(function).parameters)


def test_other_functions_answer_too():
    with pytest.raises(
        TypeError, match=r"FederatedAveraging\(\) has no .*client="
    ):
        fl.FederatedAveraging(zoo.regression(), epochs=3)
    with pytest.raises(TypeError, match=r"LocalTraining\(\) has no .*SGD"):
        fl.LocalTraining(learning_rate=3)
    with pytest.raises(TypeError, match=r"evaluate\(\) has no .*leave it out"):
        zoo.regression_process().evaluate(DATA, verbose=0)
    with pytest.raises(TypeError, match="unexpected keyword argument 'epoch'"):
        zoo.regression_process().fit(DATA, epoch=3)


def test_help_shows_the_real_arguments():
    parameters = inspect.signature(fl.LearningProcess.fit).parameters
    assert list(parameters)[1:4] == ["data", "rounds", "clients_per_round"]
    assert "kwargs" not in parameters
