#!/usr/bin/env bash
# The tests, in the .venv that quickstart.sh uses too. Arguments go to pytest: scripts/test.sh tests/data -k ledger
set -euo pipefail
source "$(dirname "$0")/env.sh"
ensure_env dev
export HF_HUB_OFFLINE=1 TOKENIZERS_PARALLELISM=false
exec python -m pytest "$@"
