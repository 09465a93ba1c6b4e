# Sourced by ./test and ./demo: installs what is missing on a Debian 12 machine and says so. Needs root only for apt-get.
# Everything else lands below build/ in this checkout.

HERE=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
BUILD="$HERE/build"
JOBS=$(nproc)

say() { printf '\n== %s\n' "$*"; }

APT_PACKAGES="g++ cmake ninja-build python3 python3-venv libfmt-dev libexpected-dev nlohmann-json3-dev libcli11-dev libsqlite3-dev libssl-dev libboost1.81-dev"
APT_TEST_PACKAGES="libgtest-dev sqlite3 redis-server etcd-server nats-server elfutils gdb strace valgrind openmpi-bin libopenmpi-dev libmpich12 libmpich-dev mpich libpmix2 munge slurmctld slurmd slurm-client slurm-wlm-basic-plugins containerd runc containernetworking-plugins iptables iproute2 catch2 doctest-dev"

install_debian() { # install_debian PACKAGES...: only what dpkg does not know as installed
  local missing=() package sudo=""
  for package in "$@"; do
    dpkg-query -W -f='${Status}' "$package" 2>/dev/null | grep -q 'ok installed' || missing+=("$package")
  done
  [ ${#missing[@]} -eq 0 ] && return 0
  say "installing Debian packages: ${missing[*]}"
  [ "$(id -u)" -eq 0 ] || sudo=sudo
  $sudo apt-get update -qq
  DEBIAN_FRONTEND=noninteractive $sudo apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
}

make_venv() { # make_venv NAME REQUIREMENT...: build/NAME with the given PyPI packages
  local venv="$BUILD/$1" wanted stamp
  shift
  wanted="$*"
  stamp="$venv/.wanted"
  if [ ! -x "$venv/bin/python" ] || [ "$(cat "$stamp" 2>/dev/null)" != "$wanted" ]; then
    say "installing from PyPI into build/$(basename "$venv"): $wanted"
    python3 -m venv "$venv"
    "$venv/bin/pip" install -q --disable-pip-version-check "$@"
    printf '%s' "$wanted" >"$stamp"
  fi
}

build_wheel() { # build_wheel VENV: with that environment's pip
  say "building holdfast (pip wheel .)"
  rm -rf "$BUILD/dist"
  "$BUILD/$1/bin/pip" wheel -q --disable-pip-version-check --no-deps --wheel-dir "$BUILD/dist" "$HERE"
}

install_holdfast() { # install_holdfast VENV: what build_wheel has made, as a user would
  say "installing holdfast into build/$1 (pip install)"
  "$BUILD/$1/bin/pip" install -q --disable-pip-version-check --no-deps --force-reinstall "$BUILD"/dist/*.whl
}
