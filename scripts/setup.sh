#!/usr/bin/env bash
# Sets up what `make` needs. Each step may be repeated, and says what it does.
#
#   scripts/setup.sh install [EXTRAS]   the virtual environment .venv with this package, editable,
#                                       and the named extras ("test", "docs", "test,docs")
#   scripts/setup.sh tools              the programs that some tests drive: Chromium, Node.js, npm,
#                                       systemd-analyze, PHP with curl. As root on Debian they
#                                       are installed; otherwise it says which tests will be skipped.
#   scripts/setup.sh npm                the Node packages of the end-to-end tests and of the
#                                       browser client's build
#   scripts/setup.sh peers              the servers on Node.js that the benchmarks compare with
#
# PYTHON chooses the interpreter (default: the newest of 3.13, 3.12, 3.11, python3 from 3.11 on).
# VENV chooses the environment's folder (default: .venv).
set -euo pipefail
cd "$(dirname "$0")/.."

VENV=${VENV:-.venv}
TEST_FOLDERS=(tests/e2e client)
PEER_FOLDERS=(benchmarks/peers)

say() { printf -- '--- %s\n' "$*" >&2; }

die() {
    printf '\nERROR: %s\n' "$1" >&2
    shift
    for line in "$@"; do printf '       %s\n' "$line" >&2; done
    exit 1
}

warn() {
    printf '\n*** WARNING: %s\n' "$1" >&2
    shift
    for line in "$@"; do printf '***          %s\n' "$line" >&2; done
    printf '\n' >&2
}

# --- Debian packages -------------------------------------------------------------------------

can_apt() { [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; }

apt_install() {
    say "installing Debian packages: $*"
    export DEBIAN_FRONTEND=noninteractive
    apt-get update -qq </dev/null >&2 &&
        apt-get install -y -qq --no-install-recommends "$@" </dev/null >&2
}

# --- Python ----------------------------------------------------------------------------------

version_is_enough() { "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; }

makes_venvs() { "$1" -c 'import ensurepip, venv' 2>/dev/null; }

# Prints the interpreter to use. A candidate counts if it runs: a version manager's stand-in for a
# Python that is not there does not.
choose_python() {
    local candidate
    if [ -n "${PYTHON:-}" ]; then
        version_is_enough "$PYTHON" ||
            die "PYTHON=$PYTHON is not a Python from 3.11 on." "$("$PYTHON" --version 2>&1 || true)"
        printf '%s\n' "$PYTHON"
        return
    fi
    for candidate in python3.13 python3.12 python3.11 python3; do
        if version_is_enough "$candidate"; then
            printf '%s\n' "$candidate"
            return
        fi
    done
    return 1
}

make_venv() {
    local python version
    if [ -x "$VENV/bin/python" ] && version_is_enough "$VENV/bin/python" &&
        "$VENV/bin/python" -m pip --version >/dev/null 2>&1; then
        return
    fi
    if ! python=$(choose_python); then
        [ -z "${PYTHON:-}" ] || exit 1  # It was said why.
        if can_apt; then
            apt_install python3 python3-venv || die "apt-get could not install Python."
        fi
        python=$(choose_python) || die "Python 3.11 or newer is needed, and none was found." \
            "found: $(python3 --version 2>/dev/null || echo 'no python3')" \
            "On Debian or Ubuntu: sudo apt-get install python3 python3-venv"
    fi
    version=$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
    if ! makes_venvs "$python"; then
        if can_apt; then
            apt_install "python$version-venv" || apt_install python3-venv || true
        fi
        makes_venvs "$python" || die "$python cannot make virtual environments (no ensurepip)." \
            "On Debian or Ubuntu: sudo apt-get install python$version-venv   (or python3-venv)" \
            "Elsewhere install Python 3.11 or newer with ensurepip, or set PYTHON=/path/to/python3."
    fi
    [ ! -e "$VENV" ] || [ -f "$VENV/pyvenv.cfg" ] ||
        die "$VENV exists and is no virtual environment; remove it, or set VENV."
    say "making $VENV with $("$python" --version 2>&1) ($(command -v "$python"))"
    rm -rf "$VENV"
    "$python" -m venv "$VENV"
}

install() {
    local extras=${1:-}
    make_venv
    say "installing twisted_push${extras:+[$extras]} into $VENV (editable)"
    "$VENV/bin/python" -m pip install --quiet --disable-pip-version-check --no-input \
        --editable ".${extras:+[$extras]}"
    "$VENV/bin/python" -m pip --disable-pip-version-check check >&2
}

# --- What some tests drive -------------------------------------------------------------------

have() {
    case $1 in
    chromium)
        command -v chromium >/dev/null || command -v chromium-browser >/dev/null ||
            command -v google-chrome >/dev/null
        ;;
    php-curl) php -r 'exit(extension_loaded("curl") ? 0 : 1);' >/dev/null 2>&1 ;;
    *) command -v "$1" >/dev/null ;;
    esac
}

# command:Debian package:which tests are skipped without it
TOOLS="
chromium:chromium:those marked browser
node:nodejs:those marked node
npm:npm:those marked node that need the packages of tests/e2e/package.json
systemd-analyze:systemd:those marked systemd
php:php-cli:those marked php
php-curl:php-curl:those marked php
"

missing_tools() {
    local command package tests
    while IFS=: read -r command package tests; do
        [ -z "$command" ] || have "$command" || printf '%s:%s:%s\n' "$command" "$package" "$tests"
    done <<<"$TOOLS"
}

tools() {
    local missing packages command package tests
    missing=$(missing_tools)
    [ -n "$missing" ] || return 0
    packages=$(cut -d: -f2 <<<"$missing" | tr '\n' ' ')
    if can_apt; then
        # shellcheck disable=SC2086
        if ! apt_install $packages; then
            [ "${CI:-}" != true ] || die "apt-get could not install: $packages"
            warn "apt-get could not install: $packages"
        fi
        missing=$(missing_tools)
    fi
    while IFS=: read -r command package tests; do
        [ -n "$command" ] || continue
        warn "$command is missing: these tests will be SKIPPED: $tests." \
            "To run them: sudo apt-get install $package"
    done <<<"$missing"
}

npm_packages() { # What is skipped without them, and the folders that want them.
    local skipped=$1 folder stamp
    shift
    if ! have node || ! have npm; then
        warn "no Node.js with npm: the packages of $* are not installed," \
            "and $skipped will be SKIPPED."
        return 0
    fi
    for folder in "$@"; do
        stamp=$folder/node_modules/.installed
        if [ -f "$stamp" ] && [ ! "$folder/package.json" -nt "$stamp" ]; then
            continue
        fi
        say "installing the Node packages of $folder"
        (cd "$folder" && npm install --no-audit --no-fund --loglevel=error </dev/null >&2)
        mkdir -p "$folder/node_modules"
        touch "$stamp"
    done
}

case ${1:-} in
install) install "${2:-}" ;;
tools) tools ;;
npm) npm_packages "the tests that need them" "${TEST_FOLDERS[@]}" ;;
peers) npm_packages "the peers on Node.js" "${PEER_FOLDERS[@]}" ;;
*) die "usage: scripts/setup.sh install [EXTRAS] | tools | npm | peers" ;;
esac
