#!/usr/bin/env bash
# Runs the tests where this machine's own do not: needs Debian or Ubuntu on x86-64, root, and a network. What it makes lies
# in build/roots, for the next time.
#   bash scripts/test-on.sh trixie|noble|...   a release of Debian or Ubuntu: setup.sh and npm test on HEAD, as a new user
#   bash scripts/test-on.sh arm64 [FILTER]     the native tests, cross-compiled and run by QEMU, many times slower than an arm64;
#                                              CPU=max|cortex-a72|... is QEMU's processor, FILTER a --gtest_filter
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

say() { printf '==> %s\n' "$*"; }
die() { printf 'test-on: %s\n' "$*" >&2; exit 1; }

[ $# -ge 1 ] || die 'expected trixie, noble or another release, or arm64'
[ "$(id -u)" -eq 0 ] || die 'run as root: it makes the root of another system'
mkdir -p build/roots
debian=http://deb.debian.org/debian
ubuntu=http://archive.ubuntu.com/ubuntu

need() {
  local missing=()
  for package in "$@"; do
    dpkg-query -W -f='${Status}' "$package" 2>/dev/null | grep -q 'ok installed' || missing+=("$package")
  done
  [ ${#missing[@]} -eq 0 ] && return
  say "Installing ${missing[*]}"
  apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
}

# A root that is complete bears the file .ready.
on_release() {
  local release=$1 root=$PWD/build/roots/$1 mirror
  need debootstrap curl
  if curl -fsI "$debian/dists/$release/Release" >/dev/null; then
    mirror=("$debian")
  elif curl -fsI "$ubuntu/dists/$release/Release" >/dev/null; then
    # A script by name: an older debootstrap does not know the release's.
    mirror=("$ubuntu" /usr/share/debootstrap/scripts/gutsy)
    local keyring=/usr/share/keyrings/ubuntu-archive-keyring.gpg
    set -- "$release" --components=main,universe "--keyring=$keyring"
    if [ ! -e $keyring ]; then
      say "Packages are not verified: $keyring is missing here"
      set -- "$release" --components=main,universe --no-check-gpg
    fi
  else
    die "neither Debian nor Ubuntu has a release $release"
  fi
  if [ ! -e "$root/.ready" ]; then
    say "Making $root"
    rm -rf "$root"
    debootstrap --variant=minbase --include=ca-certificates,git "${@:2}" "$release" "$root" "${mirror[@]}" >"$root.log" ||
      { tail -n 20 "$root.log" >&2; die "debootstrap could not make $root"; }
    touch "$root/.ready"
  fi
  # Node and npm are this machine's, and so are the certificates that it trusts.
  cp "$(readlink -f "$(command -v node)")" "$root/usr/local/bin/node"
  local npm
  npm=$(dirname "$(dirname "$(readlink -f "$(command -v npm)")")")
  rm -rf "$root/usr/local/lib/node_modules/npm" && mkdir -p "$root/usr/local/lib/node_modules"
  cp -a "$npm" "$root/usr/local/lib/node_modules/npm"
  ln -sf ../lib/node_modules/npm/bin/npm-cli.js "$root/usr/local/bin/npm"
  ln -sf ../lib/node_modules/npm/bin/npx-cli.js "$root/usr/local/bin/npx"
  cp /etc/ssl/certs/ca-certificates.crt "$root/etc/ssl/certs/"
  cp /etc/resolv.conf "$root/etc/"
  rm -rf "$root/root/tenon"
  git clone -q . "$root/root/tenon"
  mkdir -p "$root/root/shared"
  # Mounts of this shell alone: they go with it.
  ROOT=$root unshare --mount bash -euc '
    for folder in proc dev sys; do mount --rbind "/$folder" "$ROOT/$folder"; done
    [ ! -d ../shared ] || mount --bind ../shared "$ROOT/root/shared"
    exec chroot "$ROOT" env -i HOME=/root PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin LANG=C.UTF-8 \
      npm_config_cafile=/etc/ssl/certs/ca-certificates.crt \
      bash -c "cd /root/tenon && . /etc/os-release && echo \"==> \$PRETTY_NAME\" && bash scripts/setup.sh && npm test"'
}

on_arm64() {
  local root=$PWD/build/roots/arm64 build=$PWD/build/arm64 release
  release=$(. /etc/os-release && printf '%s' "$VERSION_CODENAME")
  curl -fsI "$debian/dists/$release/Release" >/dev/null || die "the compiler for arm64 fits Debian's packages: run on Debian, this is $release"
  need debootstrap curl g++-aarch64-linux-gnu qemu-user-static cmake ninja-build
  if [ ! -e "$root/.ready" ]; then
    say "Making $root"
    rm -rf "$root"
    # Packages are unpacked, not installed: nothing of arm64 runs.
    debootstrap --foreign --arch=arm64 --variant=minbase \
      --include=libc6-dev,libdnnl-dev,libgomp1,libgtest-dev,libhwy-dev,"libstdc++-$(g++ -dumpversion)-dev" \
      "$release" "$root" "$debian" >"$root.log" || { tail -n 20 "$root.log" >&2; die "debootstrap could not make $root"; }
    for package in "$root"/var/cache/apt/archives/*.deb; do dpkg-deb --extract "$package" "$root"; done
    touch "$root/.ready"
  fi
  cmake -S native -B "$build" -G Ninja --log-level=WARNING -DTENON_BUILD_ADDON=OFF -DTENON_BUILD_TESTS=ON -DTENON_CUDA=OFF \
    -DCMAKE_SYSTEM_NAME=Linux -DCMAKE_SYSTEM_PROCESSOR=aarch64 -DCMAKE_LIBRARY_ARCHITECTURE=aarch64-linux-gnu \
    -DCMAKE_CXX_COMPILER=aarch64-linux-gnu-g++ -DCMAKE_SYSROOT="$root" -DCMAKE_FIND_ROOT_PATH="$root" \
    -DCMAKE_FIND_ROOT_PATH_MODE_{LIBRARY,INCLUDE,PACKAGE}=ONLY -DCMAKE_FIND_ROOT_PATH_MODE_PROGRAM=NEVER >/dev/null
  local harness failed=0
  for harness in tenon_tests tenon_cuda_tests; do
    cmake --build "$build" --target $harness
    say "$harness on QEMU's ${CPU:-max}"
    OMP_NUM_THREADS=2 qemu-aarch64-static -cpu "${CPU:-max}" -L "$root" "$build/$harness" --gtest_brief=1 \
      --gtest_filter="${1:-*}" || failed=1
  done
  return $failed
}

case $1 in
  arm64) shift && on_arm64 "$@" ;;
  *) on_release "$1" ;;
esac
