import difflib
from collections.abc import Iterable

# What other libraries, or people in a hurry, call a word of a name.
_IN_FULL = {
    "algo": "algorithm",
    "bs": "batch_size",
    "eps": "epsilon",
    "eta": "learning_rate",
    "global": "server",
    "local": "client",
    "lr": "learning_rate",
    "mu": "proximal",
    "noise": "dp_epsilon",
    "opt": "optimizer",
    "out": "output_dir",
    "privacy": "dp_epsilon",
    "prox": "proximal",
    "steps": "epochs",
}


def did_you_mean(name: str, known: Iterable[str], prefix: str = "") -> str:
    """`" Did you mean ...?"` for the nearest known names, or `""`.

    `prefix` is put before each name, such as `"--"`.

    >>> did_you_mean("fedadm", ["fedavg", "fedadam"])
    ' Did you mean fedadam?'
    >>> did_you_mean("client_lr", ["client_learning_rate", "client_optimizer"])
    ' Did you mean client_learning_rate?'
    """
    lower = {k.lower(): k for k in known}
    name = name.lower().replace("-", "_")
    words = [_IN_FULL.get(word, word) for word in name.split("_")]
    name = "_".join(words)
    near = difflib.get_close_matches(name, lower, n=1, cutoff=0.85)
    if not near:
        # Those that say more than what was typed, unless they are many.
        near = [k for k in lower if set(name.split("_")) <= set(k.split("_"))]
    if not 0 < len(near) <= 2:
        near = difflib.get_close_matches(name, lower, n=1, cutoff=0.55)
    if not near:
        # A word and what it is short for are far apart in letters.
        near = [k for k in lower if len(name) > 1 and k.startswith(name)][:1]
    found = " or ".join(prefix + lower[k] for k in near)
    return f" Did you mean {found}?" if near else ""
