#!/usr/bin/env bash
# The tests, in the .venv that quickstart.sh uses too. Arguments go to pytest: scripts/test.sh tests/data -k ledger
# The whole suite runs in one process for each core, up to four (--numprocesses changes it); a part of it, in one.
set -euo pipefail
source "$(dirname "$0")/env.sh"
ensure_env dev
export HF_HUB_OFFLINE=1 TOKENIZERS_PARALLELISM=false
[ $# -gt 0 ] || set -- --numprocesses "$(nproc)" --maxprocesses 4 --dist worksteal
exec python -m pytest "$@"
