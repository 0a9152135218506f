"""Merging Keras metrics over clients, and their statistics per client."""
