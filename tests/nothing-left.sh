#!/usr/bin/env bash
# However provium is ended while a guest runs, nothing of it is left: no process, no temporary file.
#   tests/nothing-left.sh PROVIUM
set -euo pipefail
provium=$1
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
mkdir "$folder/tmp"
cat > "$folder/long.test.lua" <<'LUA'
local vm = provium:vm("v", "default"):boot()
test("long", function() vm:run("sleep 1000") end)
LUA

fail() { echo "nothing-left: $*" >&2; exit 1; }

# Waits, at most a minute, until a command succeeds.
await() {
  local what=$1 deadline=$((SECONDS + 60))
  shift
  until "$@"; do
    [ $SECONDS -lt $deadline ] || fail "waited in vain: $what"
    sleep 0.05
  done
}
machine_of() { machine=$(cat /proc/"$1"/task/*/children 2>/dev/null | tr ' ' '\n' | grep -m1 .); }
booted() { [ -s "$folder/events" ] && grep -aq vm_spawned "$folder/events"; }
gone() { [ ! -e /proc/"$1" ] || grep -q '^State:.Z' /proc/"$1"/status 2>/dev/null; }

for signal in INT TERM HUP KILL; do
  rm -f "$folder/events"
  TMPDIR=$folder/tmp "$provium" --save-events "$folder/events" "$folder/long.test.lua" \
    > "$folder/out" 2>&1 &
  pid=$!
  await "a booted guest" booted
  machine_of "$pid" || fail "no machine was started"
  kill -"$signal" "$pid"
  await "the end of provium after SIG$signal" gone "$pid"
  await "the end of the machine after SIG$signal" gone "$machine"
  wait "$pid" 2> /dev/null && code=0 || code=$?
  [ "$signal" = KILL ] || [ "$code" = 1 ] || fail "exit code $code after SIG$signal: $(cat "$folder/out")"
  left=$(ls -A "$folder/tmp")
  [ -z "$left" ] || fail "left after SIG$signal: $left"
  echo "nothing left after SIG$signal"
done
