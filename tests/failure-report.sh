#!/usr/bin/env bash
# What a test that fails on a guest tells: the author's line and frames, its log and steps, and the end of
# every booted VM's console.
#   tests/failure-report.sh PROVIUM
set -euo pipefail
provium=$(realpath "$1")
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cat > "$folder/fails.test.lua" <<'LUA'
local web = provium:vm("web", "default"):boot()

local function check(vm)
  vm:run("echo out; echo err >&2; exit 3"):assert_ok()
end

test("fails", function(t)
  local db = provium:vm("db", "default"):boot()
  provium:vm("off", "default")
  -- More than is shown, by far.
  for i = 1, 200 do web:write_file("/dev/kmsg", ("<1>line %d of the web's console\n"):format(i)) end
  db:write_file("/dev/kmsg", "<1>the db's console\n")
  web:console():expect("line 200 of")
  db:console():expect("the db's console")
  t:log("about to", "fail")
  t:step("a step", function() end)
  check(web)
end)

test("out of time", {timeout = "1s"}, function(t) web:run("sleep 100") end)

test("as usable as before", function(t) t:assert_eq(web:run("echo on").stdout, "on\n") end)
LUA

fail() {
  echo "failure-report: $*" >&2
  cat "$folder/out" >&2
  exit 1
}
has() { grep -qF -- "$1" "$folder/out" || fail "this is missing: $1"; }
lacks() { ! grep -qF -- "$1" "$folder/out" || fail "this should not be there: $1"; }
run() {
  local code=0
  (cd "$folder" && exec "$provium" "$@") > "$folder/out" 2>&1 || code=$?
  [ $code -eq 1 ] || fail "exit code $code, not 1"
}

run --color never fails.test.lua
has 'FAIL fails.test.lua (1 passed, 2 failed, 0 skipped)'
has 'run("echo out; echo err >&2; exit 3") exited with 3'
has '--> fails.test.lua:4:3'
has 'stdout: out'
has 'stderr: err'
has 'fails.test.lua:4: in check'
has 'fails.test.lua:17'
has 'about to fail'
has 'step a step'
has "console of vm \`web\`"
has "line 200 of the web's console"
lacks "line 1 of the web's console"
has "console of vm \`db\`"
has "the db's console"
lacks "console of vm \`off\`"
has 'timed out after 1s in vm:run("sleep 100")'
has '--> fails.test.lua:20:1'

run --json fails.test.lua
[ "$(grep -c '^{' "$folder/out")" -eq 1 ] || fail "not one line of JSON"
has '"status":"failed"'
has 'fails.test.lua:4: run('
has '"log":["about to fail"]'
echo "failure-report: a failed test tells where, why, and what its VMs said"
