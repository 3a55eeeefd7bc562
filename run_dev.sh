#!/usr/bin/env bash
# Starts the API, or its tests, and sets up first what is missing. Needs no root.
# Its bash is that of macOS, 3.2.
set -eu
CDPATH='' cd -- "$(dirname -- "$0")"

usage='usage: ./run_dev.sh                    start the API, restart it when backend/ changes
       ./run_dev.sh test [arguments]   run the tests; the arguments go to pytest
       ./run_dev.sh migrate ["words"]  bring the database to where backend/models.py is
       ./run_dev.sh check              check format, lint and types
       ./run_dev.sh benchmark [what]   measure how fast it is, beside other ways'

stop() {
    printf '%s\n' "$1" >&2
    exit 1
}

# .venv/incomplete is there from the making of .venv until its packages are installed,
# and while they change: what was interrupted is not trusted, but made anew.
venv_works() {
    [ ! -e .venv/incomplete ] &&
        .venv/bin/python -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null &&
        get_pip
}

# uv makes a .venv without pip; one that is there is kept, whoever made it.
get_pip() {
    if .venv/bin/python -c 'import pip' 2>/dev/null; then
        return
    fi
    touch .venv/incomplete
    .venv/bin/python -m ensurepip >/dev/null 2>&1 ||
        uv pip install --quiet --python .venv/bin/python pip 2>/dev/null ||
        return
    rm .venv/incomplete
}

clear_venv() {
    rm -rf .venv
    mkdir .venv
    touch .venv/incomplete
}

# A candidate counts only once it has run: pyenv puts commands into PATH that fail, and
# Debian's Python cannot make a .venv before python3-venv is installed.
make_venv() {
    local python version too_old='' cannot=''
    clear_venv
    for python in python3.13 python3.12 python3.11 python3 python; do
        version=$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null) ||
            continue
        if ! "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))'; then
            too_old=${too_old:-$version}
        elif "$python" -m venv .venv >/dev/null 2>&1; then
            echo "Made .venv with Python $version."
            return
        else
            cannot=${cannot:-$version}
            clear_venv
        fi
    done
    if command -v uv >/dev/null; then
        uv venv --seed --allow-existing --python 3.13 .venv || stop "uv could not make .venv, for the reason above; see to that, then start again."
        return
    fi
    rm -rf .venv
    if [ -n "$cannot" ]; then
        stop "Python $cannot cannot make virtual environments here: install python$cannot-venv (on Debian and Ubuntu: sudo apt install python$cannot-venv) or uv (https://docs.astral.sh/uv), then start again."
    fi
    stop "Python 3.11 or newer is needed${too_old:+, and this one is $too_old}: install it from https://www.python.org/downloads, or install uv (https://docs.astral.sh/uv), then start again."
}

# Installs the packages of a file, unless exactly these are installed. Those that they need
# come in the versions that the tests ran with.
install() {
    local installed
    installed=.venv/$(printf %s "$1" | tr / -)
    if cat constraints.txt "$1" | cmp -s - "$installed"; then
        return
    fi
    echo "Installing $1 ..."
    touch .venv/incomplete
    if ! .venv/bin/python -m pip install --quiet --disable-pip-version-check \
        --constraint constraints.txt --requirement "$1"; then
        rm .venv/incomplete # pip takes back what it cannot finish
        stop "The packages of $1 could not be installed, for the reason above: check the network, then start again."
    fi
    cat constraints.txt "$1" >"$installed"
    rm .venv/incomplete
}

# Makes .env, and adds what no two projects may have alike: the key that signs the tokens.
make_env() {
    [ -e .env ] || (umask 077 && cp .env.example .env)
    # What cannot be read or written here is explained by backend/settings.py.
    .venv/bin/python 2>/dev/null - <<'PYTHON' || true
from pathlib import Path
from secrets import token_urlsafe
from dotenv import dotenv_values

file = Path(".env")
if not dotenv_values(file, encoding="utf-8-sig").get("SECRET_KEY"):
    text = file.read_text(encoding="utf-8")
    end = "" if text.endswith("\n") else "\n"
    with file.open("a", encoding="utf-8") as added:
        added.write(f"{end}SECRET_KEY={token_urlsafe(32)}\n")
    print("Added a random SECRET_KEY to .env.")
PYTHON
}

# Installs the packages of the files given.
set_up() {
    local file
    trap 'exit 130' INT # also when the program that was interrupted ends as if it were not
    venv_works || make_venv
    for file in "$@"; do
        install "$file"
    done
}

case ${1-start} in
start)
    set_up requirements.txt
    make_env
    exec .venv/bin/python -m backend --reload
    ;;
test)
    shift
    set_up requirements.txt tests/requirements.txt
    # Three at a time, as many tests mostly wait; the last -n counts.
    exec .venv/bin/python -m pytest -n 3 --dist worksteal "$@"
    ;;
benchmark)
    shift
    set_up requirements.txt tests/requirements.txt tests/benchmark/requirements.txt
    exec .venv/bin/python -m tests.benchmark "$@"
    ;;
migrate)
    shift
    set_up requirements.txt tests/requirements.txt # ruff formats what is written
    make_env
    exec .venv/bin/python -m backend.migrate "$@"
    ;;
check)
    set_up requirements.txt tests/requirements.txt
    .venv/bin/python -m ruff format --check .
    .venv/bin/python -m ruff check .
    exec .venv/bin/python -m mypy
    ;;
*)
    printf '%s\n' "$usage" >&2
    exit 2
    ;;
esac
