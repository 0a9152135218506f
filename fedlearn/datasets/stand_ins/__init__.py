"""Benchmark data sets that are drawn by code: no download, no licence.

Each module draws clients with the very features of the real data set (names,
shapes, dtypes) that differ from each other as the real ones do, for tests,
tutorials and machines without a network. Nothing in them is taken from the
real sets, and accuracy on them says nothing about those. The same arguments
give the same bytes on every machine.
"""
