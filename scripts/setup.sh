#!/usr/bin/env bash
# Sets a checkout up: installs what is missing, then builds. Run it as often as you like; work already done is skipped.
#   bash scripts/setup.sh [--dev]      --dev adds what `npm run check` needs (clang-format, clang-tidy)
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

say() { printf '==> %s\n' "$*"; }
die() { printf 'setup: %s\n' "$*" >&2; exit 1; }

packages=(g++ cmake ninja-build pkg-config libdnnl-dev libhwy-dev libjpeg-dev libgtest-dev ccache)
case "${1-}" in
  '') ;;
  --dev) packages+=(clang-format clang-tidy) ;;
  *) die "unknown option $1; the only option is --dev" ;;
esac

command -v node >/dev/null || die 'Node.js 20.17 or newer is missing: see https://nodejs.org/en/download'
node -e 'const [a, b] = process.versions.node.split(".").map(Number); process.exit(a > 20 || (a === 20 && b >= 17) ? 0 : 1)' ||
  die "Node.js 20.17 or newer is needed, this is $(node --version): see https://nodejs.org/en/download"

if command -v apt-get >/dev/null; then
  missing=()
  for package in "${packages[@]}"; do
    dpkg-query -W -f='${Status}' "$package" 2>/dev/null | grep -q 'ok installed' || missing+=("$package")
  done
  if [ ${#missing[@]} -gt 0 ]; then
    say "Installing ${missing[*]}"
    as_root=()
    if [ "$(id -u)" -ne 0 ]; then
      command -v sudo >/dev/null || die "run as root: apt-get install ${missing[*]}"
      as_root=(sudo)
    fi
    log=$(mktemp)
    {
      "${as_root[@]}" apt-get update -qq &&
        "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}"
    } >"$log" 2>&1 </dev/null || { cat "$log" >&2; die "apt-get could not install ${missing[*]}"; }
    rm -f "$log"
  fi
else
  for tool in c++ cmake; do
    command -v "$tool" >/dev/null || die "$tool is missing. Tenon needs a C++20 compiler, CMake, oneDNN, Highway, libjpeg-turbo,
  OpenMP and GoogleTest. With Homebrew: brew install cmake ninja pkg-config onednn highway jpeg-turbo libomp googletest ccache"
  done
fi

# npm ci takes node_modules down and up again, so it runs only where the lock file has changed.
lock=$(node -p 'require("node:crypto").createHash("sha256").update(require("node:fs").readFileSync("package-lock.json")).digest("hex")')
if [ "$(cat node_modules/.tenon-lock 2>/dev/null)" != "$lock" ]; then
  say 'Installing npm packages'
  # --ignore-scripts: npm would build the addon here, unseen; it is built below.
  npm ci --ignore-scripts --no-audit --no-fund --loglevel=error >/dev/null
  printf '%s' "$lock" >node_modules/.tenon-lock
fi

say 'Building the native addon'
npm run --silent build:native
say 'Compiling TypeScript'
npm run --silent build:ts
say 'Tenon is ready'
