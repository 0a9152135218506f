"""What `import fedlearn` adds to `import keras`, in seconds.

Timed inside one process after `import keras`, five times in fresh ones; then
what the first use of `FederatedAveraging` imports on top::

    python benchmarks/import_time.py

Prints one line of JSON with medians.
"""

import json
import os
import statistics
import subprocess
import sys

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

CODE = """
import time, keras
start = time.perf_counter()
import fedlearn
imported = time.perf_counter()
fedlearn.FederatedAveraging
used = time.perf_counter()
print(imported - start, used - imported)
"""


def main():
    times = []
    for _ in range(5):
        result = subprocess.run(
            [sys.executable, "-c", CODE],
            capture_output=True,
            text=True,
            check=True,
        )
        times.append(map(float, result.stdout.split()))
    added, used = map(statistics.median, zip(*times, strict=True))
    print(json.dumps({"added_s": added, "first_use_s": used}))


if __name__ == "__main__":
    main()
