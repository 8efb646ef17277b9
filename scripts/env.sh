# Sourced by the other scripts: a .venv with nlpft in it, made or brought up to date only where need be.
# Python: $PYTHON, else python3. Extra groups to install: $1, e.g. "dev".
cd "$(dirname "${BASH_SOURCE[0]}")/.."
PYTHON=${PYTHON:-python3}
"$PYTHON" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || {
    echo "error: $("$PYTHON" --version) is too old, nlpft needs Python 3.11 or newer; name one by PYTHON=..." >&2
    exit 2
}

# Threads that wait shall not spin: where another program takes a core, spinning made a step ten times slower (docs/LOG.md).
export OMP_WAIT_POLICY=${OMP_WAIT_POLICY:-PASSIVE}

say() { printf '\n\033[1m%s\033[0m\n' "$*"; }

ensure_env() {
    local extras=$1 stamp=".venv/.nlpft-$1" wanted
    wanted=$(cat pyproject.toml constraints.txt | cksum)
    if [ "$(cat "$stamp" 2>/dev/null)" != "$wanted" ]; then
        say "Installing nlpft into .venv (once; several minutes on a new machine)"
        [ -x .venv/bin/python ] || "$PYTHON" -m venv .venv
        # torch first and by its exact version: with an open range, pip may choose another build.
        .venv/bin/python -m pip install --quiet --disable-pip-version-check "$(grep '^torch==' constraints.txt)"
        .venv/bin/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[$extras]"
        echo "$wanted" > "$stamp"
    fi
    export PATH="$PWD/.venv/bin:$PATH"
}
