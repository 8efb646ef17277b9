"""nlpft's preparation: `nlpft convert`, which also packs the rows to say how full packs will be.

    python with_nlpft.py FILE --model FOLDER --out FOLDER [--workers 2] [--max_length 4096] [arguments of nlpft convert]

Prints the dataset's Arrow files as JSON. The file is any that `nlpft convert` reads.
"""

import json
import sys

import job

from nlpft.cli import main as nlpft


def main() -> int:
    task, more = job.parse_known(__doc__)
    output = task.out / "dataset"
    shape = ["--max_length", str(task.max_length), "--workers", str(task.workers)]
    code = nlpft(["convert", str(task.file), "-o", str(output), "--model", str(task.model), *shape, *more])
    print(json.dumps({"files": sorted(str(path) for path in output.rglob("*.arrow"))}))
    return code


if __name__ == "__main__":
    sys.exit(main())
