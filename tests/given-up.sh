#!/usr/bin/env bash
# A file whose Lua code cannot be interrupted costs only its own time: it is abandoned soon after its limit, its
# VM ends, its resources go to the next file, and the run ends. Two signals end a run at once also then.
#   tests/given-up.sh PROVIUM
set -euo pipefail
provium=$(realpath "$1")
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
printf '[provium]\n' > "$folder/provium.toml"
# A C function of Lua that never returns and cannot be interrupted.
cat > "$folder/a.test.lua" <<'LUA'
local vm = provium:vm("v", "default"):boot()
local endless = setmetatable({}, {__len = function() return math.maxinteger - 1 end})
test("hangs", {timeout = "1s"}, function() table.remove(endless, 1) end)
LUA
cat > "$folder/b.test.lua" <<'LUA'
test("has its turn", function(t)
  t:assert_eq(provium:vm("w", "default"):boot():run("echo up").stdout, "up\n")
end)
LUA

fail() { echo "given-up: $*" >&2; cat "$folder/out" >&2; exit 1; }

# Waits, at most a minute, until a command succeeds.
await() {
  local what=$1 deadline=$((SECONDS + 60))
  shift
  until "$@"; do
    [ $SECONDS -lt $deadline ] || fail "waited in vain: $what"
    sleep 0.05
  done
}

cd "$folder"
begun=$SECONDS
timeout -s KILL 120 "$provium" --cpus 1 --timeout 10s a.test.lua b.test.lua > out 2>&1 && code=0 || code=$?
[ "$code" = 1 ] || fail "exit code $code after $((SECONDS - begun)) s"
grep -q '^TIME a.test.lua (0 passed, 1 failed' out || fail "the file is not reported as timed out"
grep -q 'fail hangs' out || fail "the test is not named"
grep -q '^PASS b.test.lua' out || fail "the other file did not run"
echo "given up after $((SECONDS - begun)) s"

for signal in INT TERM HUP; do
  rm -f events
  "$provium" --save-events events a.test.lua > out 2>&1 &
  pid=$!
  await "a test that runs" grep -aqs test_started events
  kill -"$signal" "$pid"
  await "the answer to SIG$signal" grep -q stopping out
  kill -"$signal" "$pid"
  begun=$SECONDS
  wait "$pid" && code=0 || code=$?
  [ $((SECONDS - begun)) -le 5 ] || fail "$((SECONDS - begun)) s from the second SIG$signal to the end"
  [ "$code" = 1 ] || fail "exit code $code after two SIG$signal"
done
echo "ended at once by two signals"
