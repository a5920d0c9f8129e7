#!/usr/bin/env bash
# Prints a style sheet with the files that it imports put in place: one request for the browser instead of a chain.
set -euo pipefail
awk -v folder="$(dirname "$1")" '
  /^@import/ {
    if (!match($0, /"[^"]+"/)) { print "css.sh: no quoted file in: " $0 > "/dev/stderr"; exit 1 }
    file = folder "/" substr($0, RSTART + 1, RLENGTH - 2)
    layered = match($0, /layer\([a-z-]+\)/)
    if (layered) print "@layer " substr($0, RSTART + 6, RLENGTH - 7) " {"
    while ((status = (getline line < file)) > 0) print line
    if (status < 0) { print "css.sh: cannot read " file > "/dev/stderr"; exit 1 }
    if (layered) print "}"
    next
  }
  { print }
' "$1"
