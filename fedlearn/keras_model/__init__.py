"""The user's Keras model as pure functions."""
