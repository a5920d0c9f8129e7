#!/usr/bin/env bash
# Installs the Debian packages named that are not there yet; says what to install where there is no apt-get.
set -euo pipefail
missing=()
for package in "$@"; do
  dpkg -s "$package" >/dev/null 2>&1 || missing+=("$package")
done
((${#missing[@]})) || exit 0
if ! command -v apt-get >/dev/null; then
  echo "Atelier needs ${missing[*]} (Debian's names): install what your system has for them and try again." >&2
  exit 1
fi
as_root=()
((EUID == 0)) || as_root=(sudo)
echo "installing ${missing[*]} with apt-get" >&2
# make calls this from several targets at once, and apt-get does not wait for its own lists.
exec 9>"${TMPDIR:-/tmp}/atelier-debian.lock"
flock 9
"${as_root[@]}" apt-get update -qq >&2
"${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -o DPkg::Lock::Timeout=600 -y -qq --no-install-recommends "${missing[@]}" >/dev/null
