#!/usr/bin/env bash
# A boot that waits for the pool: the time limits of its test and file are stopped, the report names the wait, and a
# file in which another task is still active is not taken for one that waits for itself.
#   tests/pool-waits.sh PROVIUM
set -euo pipefail
provium=$(realpath "$1")
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
printf '[provium]\n' > provium.toml
# It holds one of two vCPUs for a while.
cat > holds.test.lua <<'LUA'
test("holds", function() provium:vm("v", "default"):boot():run("sleep 12") end)
LUA
cat > waits.test.lua <<'LUA'
local meeting = provium:vm("first", "default"):boot()
test("has its time for itself", {timeout = "5s"}, function(t)
  meeting:run("sleep 1")
  t:assert_eq(provium:vm("second", "default"):boot():run("echo on").stdout, "on\n")
end)
test("has no more than that", {timeout = "1s"}, function() meeting:run("sleep 100") end)
LUA
cat > task.test.lua <<'LUA'
test("room comes back from another task", {timeout = "90s"}, function(t)
  local a = provium:vm("a", "default"):boot()
  local task = co.spawn(function() a:run("sleep 13"); a:shutdown() end)
  t:assert_eq(provium:vm("b", "default"):boot():run("echo on").stdout, "on\n")
  task:join()
end)
test("room that nobody gives back", {timeout = "90s"}, function(t)
  provium:vm("a", "default"):boot()
  local err = t:assert_raises(function() provium:vm("b", "default"):boot() end)
  t:assert_contains(tostring(err), "every running file waits")
end)
LUA

fail() { echo "pool-waits: $*" >&2; cat out >&2; exit 1; }

"$provium" --cpus 2 --mem 800M holds.test.lua waits.test.lua > out 2>&1 && code=0 || code=$?
[ "$code" = 1 ] || fail "exit code $code"
grep -q '^PASS holds.test.lua' out || fail "the file that holds did not pass"
grep -q '^FAIL waits.test.lua (1 passed, 1 failed' out || fail "not one of each"
grep -q 'timed out after 1s in vm:run' out || fail "a time limit does not hold"
grep -q '^  waited [0-9.]*s for 356 MiB and 1 vCPU' out || fail "the wait is not named"
# No boot of a template takes that long.
! "$provium" -v --cpus 2 --mem 800M holds.test.lua waits.test.lua 2>&1 | grep -E 'boot second .* ([5-9]|[0-9]{2,})\.[0-9]+s$' \
  || fail "the wait counts as the boot"
echo "a wait for others counts for nobody"

"$provium" --mem 600M task.test.lua > out 2>&1 || fail "a file that goes on was refused, or one that waits for itself was not"
echo "a file that goes on is waited for"
