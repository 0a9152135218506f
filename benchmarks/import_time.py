"""What `import fedlearn` adds to `import keras`, in seconds.

Each import runs in a fresh interpreter; the two take turns::

    python benchmarks/import_time.py

Prints one line of JSON with medians, and with what using `FederatedAveraging`
for the first time imports on top.
"""

import json
import os
import statistics
import subprocess
import sys

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

CASES = {
    "keras": "import keras",
    "keras_fedlearn": "import keras, fedlearn",
    "keras_process": "import keras, fedlearn; fedlearn.FederatedAveraging",
}
TIMED = (
    "import time; t = time.perf_counter(); {}; print(time.perf_counter() - t)"
)


def main():
    times = {name: [] for name in CASES}
    for _ in range(5):
        for name, code in CASES.items():
            result = subprocess.run(
                [sys.executable, "-c", TIMED.format(code)],
                capture_output=True,
                text=True,
                check=True,
            )
            times[name].append(float(result.stdout.splitlines()[-1]))
    medians = {n: round(statistics.median(t), 3) for n, t in times.items()}
    added = [
        b - a
        for a, b in zip(times["keras"], times["keras_fedlearn"], strict=True)
    ]
    medians["added"] = round(statistics.median(added), 3)
    print(json.dumps(medians))


if __name__ == "__main__":
    main()
