#!/usr/bin/env bash
# Runs the tests where this machine's own do not: needs Debian or Ubuntu on x86-64, root, and a network. What it makes lies
# in build/systems, for the next time.
#   bash scripts/test-on.sh trixie|noble|...   a release of Debian or Ubuntu: setup.sh and npm test on HEAD, as a new user
#   bash scripts/test-on.sh arm64 [FILTER]     the native tests, cross-compiled and run by QEMU, many times slower than an arm64;
#                                              CPU=max|cortex-a72|... is QEMU's processor, FILTER a --gtest_filter
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

say() { printf '==> %s\n' "$*"; }
die() { printf 'test-on: %s\n' "$*" >&2; exit 1; }

[ $# -ge 1 ] || die 'expected trixie, noble or another release, or arm64'
[ "$(id -u)" -eq 0 ] || die 'run as root: it makes the folders of another system'

need() {
  local missing=()
  for package in "$@"; do
    dpkg-query -W -f='${Status}' "$package" 2>/dev/null | grep -q 'ok installed' || missing+=("$package")
  done
  [ ${#missing[@]} -eq 0 ] && return
  say "Installing ${missing[*]}"
  apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
}

# make_system SYSTEM RELEASE OPTION...: the folder SYSTEM, by debootstrap. Who called touches SYSTEM/.ready when it is complete.
make_system() {
  local system=$1 release=$2 keyring=/usr/share/keyrings/ubuntu-archive-keyring.gpg
  local script=/usr/share/debootstrap/scripts/$release
  shift 2
  # A release that this debootstrap does not know is Ubuntu's: all of them share one script.
  [ -e "$script" ] || script=/usr/share/debootstrap/scripts/gutsy
  if [ "$(readlink -f "$script")" = /usr/share/debootstrap/scripts/gutsy ]; then
    set -- --components=main,universe "$@"
    if [ -e $keyring ]; then
      set -- --keyring=$keyring "$@"
    else
      say "Packages are not verified: $keyring is missing here"
      set -- --no-check-gpg "$@"
    fi
  fi
  say "Making $system"
  rm -rf "$system"
  mkdir -p "$(dirname "$system")"
  debootstrap --variant=minbase "$@" "$release" "$system" '' "$script" >"$system.log" ||
    { tail -n 20 "$system.log" >&2; die "debootstrap could not make $release"; }
}

on_release() {
  local release=$1 system=$PWD/build/systems/$1 npm
  need debootstrap
  if [ ! -e "$system/.ready" ]; then
    make_system "$system" "$release" --include=ca-certificates,git
    touch "$system/.ready"
  fi
  # Node and npm are this machine's, and so are the certificates that it trusts.
  cp "$(readlink -f "$(command -v node)")" "$system/usr/local/bin/node"
  npm=$(dirname "$(dirname "$(readlink -f "$(command -v npm)")")")
  rm -rf "$system/usr/local/lib/node_modules/npm" && mkdir -p "$system/usr/local/lib/node_modules"
  cp -a "$npm" "$system/usr/local/lib/node_modules/npm"
  ln -sf ../lib/node_modules/npm/bin/npm-cli.js "$system/usr/local/bin/npm"
  ln -sf ../lib/node_modules/npm/bin/npx-cli.js "$system/usr/local/bin/npx"
  cp /etc/ssl/certs/ca-certificates.crt "$system/etc/ssl/certs/"
  cp /etc/resolv.conf "$system/etc/"
  rm -rf "$system/srv/tenon"
  git clone -q . "$system/srv/tenon"
  mkdir -p "$system/srv/shared"
  # Mounts of this shell alone: they go with it.
  SYSTEM=$system unshare --mount bash -euc '
    for folder in proc dev sys; do mount --rbind "/$folder" "$SYSTEM/$folder"; done
    [ ! -d ../shared ] || mount --bind ../shared "$SYSTEM/srv/shared"
    exec chroot "$SYSTEM" env -i HOME=/srv PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin LANG=C.UTF-8 \
      npm_config_cafile=/etc/ssl/certs/ca-certificates.crt \
      bash -c "cd /srv/tenon && . /etc/os-release && echo \"==> \$PRETTY_NAME\" && bash scripts/setup.sh && npm test"'
}

on_arm64() {
  local system=$PWD/build/systems/arm64 build=$PWD/build/arm64 ID VERSION_CODENAME
  . /etc/os-release
  [ "$ID" = debian ] || die "the compiler for arm64 fits Debian's packages: run on Debian, this is $ID"
  need debootstrap g++-aarch64-linux-gnu qemu-user-static cmake ninja-build
  if [ ! -e "$system/.ready" ]; then
    # Packages are unpacked, not installed: nothing of arm64 runs.
    make_system "$system" "$VERSION_CODENAME" --foreign --arch=arm64 \
      --include=libc6-dev,libdnnl-dev,libgomp1,libgtest-dev,libhwy-dev,libjpeg-dev,"libstdc++-$(g++ -dumpversion)-dev"
    for package in "$system"/var/cache/apt/archives/*.deb; do dpkg-deb --extract "$package" "$system"; done
    touch "$system/.ready"
  fi
  cmake -S native -B "$build" -G Ninja --log-level=WARNING -DTENON_BUILD_ADDON=OFF -DTENON_BUILD_TESTS=ON -DTENON_CUDA=OFF \
    -DCMAKE_SYSTEM_NAME=Linux -DCMAKE_SYSTEM_PROCESSOR=aarch64 -DCMAKE_LIBRARY_ARCHITECTURE=aarch64-linux-gnu \
    -DCMAKE_CXX_COMPILER=aarch64-linux-gnu-g++ -DCMAKE_SYSROOT="$system" -DCMAKE_FIND_ROOT_PATH="$system" \
    -DCMAKE_FIND_ROOT_PATH_MODE_{LIBRARY,INCLUDE,PACKAGE}=ONLY -DCMAKE_FIND_ROOT_PATH_MODE_PROGRAM=NEVER >/dev/null
  local harness failed=0
  for harness in tenon_tests tenon_cuda_tests; do
    cmake --build "$build" --target $harness
    say "$harness on QEMU's ${CPU:-max}"
    OMP_NUM_THREADS=2 qemu-aarch64-static -cpu "${CPU:-max}" -L "$system" "$build/$harness" --gtest_brief=1 \
      --gtest_filter="${1:-*}" || failed=1
  done
  return $failed
}

case $1 in
  arm64) shift && on_arm64 "$@" ;;
  *) on_release "$1" ;;
esac
