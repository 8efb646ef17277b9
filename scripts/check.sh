#!/usr/bin/env bash
# Style and types: ruff (lint and format) and mypy.
set -euo pipefail
source "$(dirname "$0")/env.sh"
ensure_env dev
ruff check .
ruff format --check .
mypy
