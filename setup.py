"""Package metadata. Tool settings are in `pyproject.toml`."""

import pathlib
import re

from setuptools import find_packages, setup

ROOT = pathlib.Path(__file__).parent


def read_version():
    # As text: importing the package would need what is being installed.
    text = (ROOT / "fedlearn" / "__init__.py").read_text(encoding="utf-8")
    return re.search(r'^__version__ = "([^"]+)"$', text, re.MULTILINE)[1]


def read_description():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    # Links to other files of the project lead nowhere on a package's page:
    # their words stay.
    return re.sub(r"\[([^]]*)\]\((?!https?:|#)[^)\s]*\)", r"\1", text)


EXTRAS = {
    "jax": ["jax>=0.7"],
    "pandas": ["pandas>=2.2"],
    "privacy": ["dp-accounting>=0.6"],
}
EXTRAS["all"] = sorted({r for extra in EXTRAS.values() for r in extra})
# Not in "all": it brings a lot, for what one constructor reads.
EXTRAS["huggingface"] = ["datasets>=2.8"]
# Nor this: a cluster is for those who have one, or several machines.
EXTRAS["ray"] = ["ray>=2.50"]
# For a few tests of fedlearn.core. It needs protobuf below 7.
EXTRAS["oracle"] = ["federated-language>=0.5.4"]
EXTRAS["dev"] = [
    *EXTRAS["all"],
    *EXTRAS["ray"],
    "datasketches>=5.2",
    "hypothesis>=6.100",
    "ipykernel>=6.29",
    "mypy>=1.15",
    "nbclient>=0.10",
    "nbformat>=5.10",
    "pytest>=8.3",
    "pytest-xdist>=3.6",
    "ruff>=0.9",
]

setup(
    name="fedlearn",
    version=read_version(),
    description="Federated learning for Keras 3 models",
    long_description=read_description(),
    long_description_content_type="text/markdown",
    author="The fedlearn authors",
    keywords=[
        "federated learning",
        "keras",
        "tensorflow",
        "jax",
        "differential privacy",
        "secure aggregation",
        "compression",
        "machine learning",
    ],
    license="Apache-2.0",
    python_requires=">=3.11",
    packages=find_packages(include=["fedlearn", "fedlearn.*"]),
    package_data={"fedlearn": ["py.typed"]},
    include_package_data=True,
    zip_safe=False,
    install_requires=[
        "absl-py>=2.1",
        # Takes lambdas and what a script defines to other processes.
        "cloudpickle>=3.0",
        "h5py>=3.11",
        # Names that are private are used of it, in two files; for a new one
        # tests/keras_model/test_keras_internals.py says which it has moved.
        "keras>=3.15,<3.16",
        # The first example draws (matplotlib), from scikit-learn's digits.
        "matplotlib>=3.9",
        "numpy>=2.0",
        # Reads TensorFlow Federated's files without TensorFlow.
        "protobuf>=5.28",
        "scikit-learn>=1.5",
        "tensorflow>=2.20",
    ],
    extras_require=EXTRAS,
    entry_points={"console_scripts": ["fedlearn = fedlearn.cli.main:run"]},
    classifiers=[
        "Development Status :: 3 - Alpha",
        "Intended Audience :: Developers",
        "Intended Audience :: Science/Research",
        "Programming Language :: Python :: 3",
        "Programming Language :: Python :: 3.11",
        "Programming Language :: Python :: 3.12",
        "Programming Language :: Python :: 3.13",
        "Topic :: Scientific/Engineering :: Artificial Intelligence",
        "Typing :: Typed",
    ],
)
