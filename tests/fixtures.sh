#!/usr/bin/env bash
# What becomes of fixtures between runs: what they are built from changes, several want them at once,
# builders are killed, entries are damaged.
#   tests/fixtures.sh PROVIUM
set -euo pipefail
provium=$1
folder=$(mktemp -d)
cleanup() { kill %% 2> /dev/null || true; rm -rf "$folder"; }
trap cleanup EXIT
cd "$folder"
mkdir -p project/tests/helpers project/more
# The default guest and its templates are the user's; fixtures are this test's own.
cache=$(realpath "${XDG_CACHE_HOME:-$HOME/.cache}/provium")
mkdir cache
for kept in "$cache"/*; do
  case $kept in */fixtures-*|*/snapshots-*) ;; *) ln -s "$kept" cache/ ;; esac
done
cd project
cat > provium.toml <<'TOML'
[provium]
roots = ["tests", "more"]
cache_dir = "../cache"
[profiles.small]
guest = "default"
memory = "128M"
[profiles.unused]
guest = "default"
TOML
cat > tests/db.fixture.lua <<'LUA'
print("db is built")
local names = require "helpers.names"
pcall(require, "helpers.optional")
local unused = os.tmpname()
io.open(unused):close()
os.remove(unused)
local vm = provium:vm("db", "small"):boot()
vm:push_file(names.pushed, "/pushed")
vm:push_file("tool.sh", "/tool.sh")
vm:push_file("declared.txt", "/declared", {perm = "600"})
vm:write_file("/read", io.open("tests/read.txt"):read("a"))
vm:write_file("/variable", os.getenv("FIXTURE_TEST") or "unset")
provium:depends_on_file("declared.txt")
-- What the build itself writes is no input, whatever becomes of it.
local scratch = os.getenv("PWD") .. "/scratch"
vm:pull_file("/proc/version", scratch)
assert(io.open(scratch):read("a"):find("Linux"))
io.open(scratch, "w"):write("else"):close()
vm:push_file(scratch, "/scratch")
os.remove(scratch)
local wait = os.getenv("FIXTURE_WAIT")
if wait then vm:run("sleep " .. wait) end
return vm:snapshot()
LUA
cat > tests/top.fixture.lua <<'LUA'
local vm = provium:vm_fixture("db.fixture.lua")
vm:write_file("/top", "top")
return vm:snapshot()
LUA
echo 'return { pushed = "pushed.txt" }' > tests/helpers/names.lua
for file in pushed read declared unread; do echo $file > tests/$file.txt; done
echo true > tests/tool.sh
chmod 644 tests/tool.sh
cat > tests/use.test.lua <<'LUA'
test("use", function(t)
  local vm = provium:vm_fixture("db.fixture.lua")
  t:assert_eq(vm:run("hostname").stdout, "db\n")
  t:log(vm:read_file("/pushed"))
end)
LUA

fail() { echo "fixtures: $*" >&2; exit 1; }
stale() { "$provium" fixture stale | sed "s#$PWD/##g"; }
expect() { # EXPECTED-LINE… : what `fixture stale` says
  local said expected
  said=$(stale)
  expected=$(printf '%s\n' "$@")
  [ "$said" = "$expected" ] || fail "expected: $expected"$'\n'"    said: $said"
  echo "as expected: ${1%% *} ${1#* }"
}
build() { "$provium" fixture build tests > build.out 2> build.err || fail "$(cat build.out build.err)"; }
# A change is seen, told, and the build it leads to makes it good.
changes() { # WHY COMMAND
  eval "$2"
  expect "tests/db.fixture.lua: $1" \
    "tests/top.fixture.lua: the fixture \`tests/db.fixture.lua\` is stale itself"
  build
  grep -qF "building db.fixture.lua: " build.err || fail "not built anew: $(cat build.err)"
}

build
expect "no fixture is stale"
grep -qxF "  db is built" build.out || fail "what is printed is lost: $(cat build.out)"
changes '`tests/db.fixture.lua` has changed' 'sed -i "1i -- more" tests/db.fixture.lua'
changes '`tests/helpers/names.lua` has changed' 'echo "return { pushed = \"other.txt\" }" > tests/helpers/names.lua; echo other > tests/other.txt'
changes '`tests/other.txt` has changed' 'echo else > tests/other.txt'
changes '`tests/read.txt` has changed' 'echo else > tests/read.txt'
changes '`tests/declared.txt` has changed' 'echo else > tests/declared.txt'
changes 'profile `small`: memory was `128 MiB`, is `136 MiB`' 'sed -i s/128M/136M/ provium.toml'
changes 'profile `small`: s3 was `false`, is `true`' 'sed -i "s/^memory = \"136M\"/&\ns3 = true/" provium.toml'
changes '`tests/helpers/optional.lua` is there now' 'echo return 1 > tests/helpers/optional.lua'
changes '`tests/tool.sh` had mode 644, has mode 755' 'chmod 755 tests/tool.sh'
changes 'the variable `FIXTURE_TEST` is there now' 'export FIXTURE_TEST=x'
# What was not read does not count.
echo else > tests/unread.txt
echo else > tests/pushed.txt
echo 'memory = "512M"' >> provium.toml
expect "no fixture is stale"
# What was is found again, without a build.
unset FIXTURE_TEST
expect "no fixture is stale"
build
grep -q building build.err && fail "built although it was there: $(cat build.err)"
# What is built anew is new for those that use it.
"$provium" fixture rebuild tests/db.fixture.lua > /dev/null 2>&1
stale | grep -qF 'the fixture `tests/db.fixture.lua` was built again' || fail "$(stale)"
build

# A snapshot folder that is restored counts, and so does what stands in the place of a file: a pipe that
# nobody writes to is not waited for.
cat > tests/make.test.lua <<'LUA'
test("make", function()
  local vm = provium:vm("v", "small"):boot()
  vm:write_file("/what", os.getenv("WHAT"))
  vm:snapshot("../of_vm")
  provium:snapshot("../of_lab")
end)
LUA
echo 'return provium:vm("v", "small"):restore("../of_vm"):snapshot()' > tests/of_vm.fixture.lua
printf 'provium:restore("../of_lab")\nreturn provium:snapshot()\n' > tests/of_lab.fixture.lua
cat > tests/made.test.lua <<'LUA'
test("made", function(t)
  t:assert_eq(provium:vm_fixture("of_vm"):read_file("/what"), os.getenv("WHAT"))
  t:assert_eq(provium:lab_fixture("of_lab"):vm("v"):read_file("/what"), os.getenv("WHAT"))
end)
LUA
for what in one two; do
  for file in make made; do
    WHAT=$what "$provium" tests/$file.test.lua > made.out 2>&1 || fail "$what: $(cat made.out)"
  done
done
expect "no fixture is stale"
rm tests/read.txt
mkfifo tests/read.txt
timeout -k 5 60 "$provium" fixture stale > stale.out || fail "a pipe was waited for"
grep -qF 'tests/db.fixture.lua: `'"$PWD/tests/read.txt"'` has changed' stale.out || fail "$(cat stale.out)"
rm tests/read.txt
echo else > tests/read.txt
expect "no fixture is stale"
rm -r of_vm of_lab tests/{of_vm,of_lab}.fixture.lua tests/{make,made}.test.lua
"$provium" fixture clean > /dev/null
build
echo "a restored folder and a pipe are seen"

# The command line takes the names that tests use.
"$provium" fixture build db top.fixture.lua > build.out 2>&1 || fail "$(cat build.out)"
[ "$(grep -c fresh build.out)" = 2 ] || fail "$(cat build.out)"
if "$provium" fixture build missing > build.out 2>&1; then fail "$(cat build.out)"; fi
grep -qF 'fixture `missing` not found in any test root' build.out || fail "$(cat build.out)"
echo "fixtures are found by the names that tests use"

# Paths in a fixture are relative to its own root, whoever asks for it; the log is that of who asks first.
echo from-tests > tests/data.txt
echo from-more > more/data.txt
cat > more/of_more.fixture.lua <<'LUA'
print("of_more is built")
local vm = provium:vm("of_more", "small"):boot()
vm:push_file("data.txt", "/data")
return vm:snapshot()
LUA
cat > tests/roots.test.lua <<'LUA'
local vm = provium:vm_fixture("../more/of_more.fixture.lua")
test("roots", function(t) t:assert_eq(vm:read_file("/data"), "from-more\n") end)
LUA
"$provium" -v tests/roots.test.lua > roots.out || fail "$(cat roots.out)"
grep -q "^ *of_more is built" roots.out || fail "the log has not what the build printed: $(cat roots.out)"
"$provium" fixture build more > build.out 2>&1
grep -q "of_more.fixture.lua (vm): fresh" build.out || fail "$(cat build.out)"
rm tests/data.txt more/of_more.fixture.lua tests/roots.test.lua
"$provium" fixture clean > /dev/null
build
echo "a fixture's paths are relative to its own root"

# A build that takes too long says where it was, however deep.
cat > tests/slow.fixture.lua <<'LUA'
local vm = provium:vm("slow", "small"):boot()
vm:run("sleep 1000")
LUA
echo 'provium:vm_fixture("slow.fixture.lua")' > tests/outer.fixture.lua
echo 'while true do end' > tests/loop.fixture.lua
cat > tests/late.test.lua <<'LUA'
test("waits", {timeout = "3s"}, function() provium:vm_fixture("outer.fixture.lua") end)
test("loops", {timeout = "1s"}, function() provium:vm_fixture("loop.fixture.lua") end)
LUA
if "$provium" tests/late.test.lua > late.out; then fail "$(cat late.out)"; fi
for expected in \
  'timed out after 3s in lab:vm_fixture("outer.fixture.lua"), whose script was in vm:run("sleep 1000") at slow.fixture.lua:2' \
  'timed out after 1s in lab:vm_fixture("loop.fixture.lua"), whose script was in loop.fixture.lua:1'; do
  grep -qF "$expected" late.out || fail "$(cat late.out)"
done
rm tests/slow.fixture.lua tests/outer.fixture.lua tests/loop.fixture.lua tests/late.test.lua
echo "a late build says where it was"

# A snapshot in a folder of its own is its author's.
echo 'return provium:vm("v", "small"):boot():snapshot("../named")' > tests/named.fixture.lua
if "$provium" fixture build tests/named.fixture.lua > build.out 2>&1; then fail "$(cat build.out)"; fi
grep -q 'fixture `named.fixture.lua`: what it returned: it must return a snapshot that was taken in it, without a folder' \
  build.out || fail "$(cat build.out)"
rm tests/named.fixture.lua

# Two runs want the same: one builds, the other waits and says so.
export FIXTURE_WAIT=3
"$provium" --save-events one.events tests/use.test.lua > one.out &
until grep -aq fixture_build_started one.events 2> /dev/null; do sleep 0.05; done
"$provium" -v --save-events two.events tests/use.test.lua > two.out || fail "$(cat two.out)"
wait %% || fail "$(cat one.out)"
grep -q "waits for use.test.lua, which builds it" two.out || fail "the second did not wait: $(cat two.out)"
grep -aq fixture_build_started two.events && fail "both built"
grep -aq fixture_cache_hit two.events || fail "the second found nothing"
echo "two runs: one built"

# A builder that is killed leaves nothing that the next one trips over.
export FIXTURE_WAIT=1000
"$provium" --save-events killed.events tests/use.test.lua > killed.out 2>&1 &
pid=$!
until grep -aq vm_spawned killed.events 2> /dev/null; do sleep 0.05; done
kill -9 $pid
wait $pid 2> /dev/null || true
unset FIXTURE_WAIT
build
"$provium" tests/use.test.lua > use.out || fail "$(cat use.out)"
[ -z "$(find ../cache/fixtures-v1 ../cache/snapshots-v1 -maxdepth 1 -name '.tmp*')" ] || fail "left: $(ls -A ../cache/*)"
echo "a killed builder left nothing"

# A damaged entry is never used: it is built anew, and the test notices nothing but the time.
damages() { # WHAT COMMAND
  local entry
  "$provium" fixture clean > /dev/null
  build
  for entry in $(ls -d ../cache/fixtures-v1/*/); do [ "$(basename "$entry")" = LOCKS ] || (cd "$entry" && eval "$2"); done
  "$provium" --save-events use.events tests/use.test.lua > use.out 2>&1 || fail "$1: $(cat use.out)"
  grep -aq fixture_build_started use.events || fail "$1: not built anew"
  grep -q "$told" use.out || fail "$1: not told: $(cat use.out)"
  [ "$(cat ../cache/fixtures-v1/*/fixture.json | grep -c '"path": .*/db.fixture.lua')" = 1 ] \
    || fail "$1: still there: $(ls ../cache/fixtures-v1)"
  echo "damaged ($1): built anew"
}
told="was damaged (.*): it is removed and rebuilt"
damages "RAM cut short" 'truncate -s -4096 snapshot/ram'
damages "a flipped bit" 'printf "\377" | dd of=snapshot/machine.json bs=1 seek=20 conv=notrunc status=none'
damages "device state cut short" 'truncate -s 1000 snapshot/devices'
damages "a file is missing" 'rm snapshot/vm.json'
damages "another version" 'sed -i "s/\"version\": 2/\"version\": 99/" fixture.json'
damages "no manifest" 'rm manifest.json'
damages "garbage" 'echo garbage > manifest.json'

build
for entry in ../cache/fixtures-v1/*/; do [ -e "$entry/fixture.json" ] && echo garbage > "$entry/fixture.json"; done
"$provium" fixture clean > clean.out
[ "$(ls ../cache/fixtures-v1)" = LOCKS ] || fail "$(cat clean.out; ls ../cache/fixtures-v1)"
echo "what cannot be read is cleaned"

# The cache is the user's; what does not belong to the project is not judged by its configuration.
build
mkdir -p ../foreign ../by_itself
echo 'provium:vm_fixture("named_here.fixture.lua")' > ../by_itself/names.fixture.lua
echo > ../by_itself/named_here.fixture.lua
printf '[provium]\ncache_dir = "../cache"\n' > ../foreign/provium.toml
# A file outside of all roots, and of any project, names fixtures beside itself.
(cd ../foreign && "$provium" list --fixtures "$folder"/by_itself > ../list.out)
grep -A1 "named_here.fixture.lua" ../list.out | grep -q "named in .*names.fixture.lua" || fail "$(cat ../list.out)"
(cd ../foreign && "$provium" fixture stale && "$provium" fixture list && "$provium" fixture list --json) > foreign.out
grep -qx "no fixture is stale" foreign.out || fail "$(cat foreign.out)"
grep -q "top.fixture.lua .* of another project$" foreign.out || fail "$(cat foreign.out)"
grep -q '"stale":null,"foreign":true' foreign.out || fail "$(cat foreign.out)"
echo "another project's fixtures are not judged"

# An entry in use stays, whatever the cap says.
sed -i '/cache_dir/a cache_max_size = "1K"' provium.toml
cat > tests/hold.test.lua <<'LUA'
local vm = provium:vm_fixture("db.fixture.lua")
test("hold", function(t)
  t:assert_eq(os.execute(os.getenv("PROVIUM") .. " tests/use.test.lua > other.out"), true)
  t:assert_eq(vm:run("hostname").stdout, "db\n")
end)
LUA
PROVIUM=$provium "$provium" tests/hold.test.lua > hold.out 2>&1 || fail "$(cat hold.out other.out)"
echo "an entry in use stays under a tiny cap"
