#!/usr/bin/env bash
# The cache of boot templates, as several runs, killed ones, damage, little room and a full disk leave
# it: the next run passes, and says what was wrong.
#   tests/cache.sh PROVIUM
set -euo pipefail
provium=$(realpath "$1")
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cache=$folder/cache
templates=$cache/templates-v1
mkdir "$cache"
# The guest is taken from the user's cache; everything else begins anew.
guest=$(dirname "$("$provium" setup | awk '$1 == "root" { print $2 }')")
own=$(dirname "$(dirname "$guest")")
cp -a --reflink=auto "$own"/{accel-v*.json,guests-v*,kernels-v*} "$cache"

printf '[provium]\ncache_dir = "%s"\n' "$cache" > "$folder/provium.toml"
cat > "$folder/boot.test.lua" <<'LUA'
test("boots", function(t)
  local vm = provium:vm("v", "default"):boot()
  t:assert_eq(vm:run("echo up").stdout, "up\n")
  print("kind:", vm:stats().boot_kind)
end)
LUA

fail() { echo "cache: $*" >&2; exit 1; }
pass() { echo "cache: $*"; }

# Waits, at most a minute, until a command succeeds.
await() {
  local what=$1 deadline=$((SECONDS + 60))
  shift
  until "$@"; do
    [ $SECONDS -lt $deadline ] || fail "waited in vain: $what"
    sleep 0.02
  done
}
gone() { [ ! -e /proc/"$1" ] || grep -q '^State:.Z' /proc/"$1"/status 2> /dev/null; }
children() { cat /proc/"$1"/task/*/children 2> /dev/null | tr ' ' '\n' | grep . || true; }

# run NAME ARGUMENTS…: a run that must pass; what it said is in $folder/NAME.{out,err,events}.
run() {
  local name=$1
  shift
  "$provium" --config "$folder/provium.toml" --save-events "$folder/$name.events" "$@" \
    > "$folder/$name.out" 2> "$folder/$name.err" ||
    fail "$name failed: $(cat "$folder/$name.out" "$folder/$name.err")"
}
# boots NAME KIND…: what the boots of a run were from.
boots() {
  local name=$1 kinds
  shift
  kinds=$(LC_ALL=C grep -aoE "boot.(cold|template|snapshot)" "$folder/$name.events" | LC_ALL=C sed "s/^boot.//" | sort | tr "\n" " " || true)
  [ "$kinds" = "$* " ] || fail "$name: boots are $kinds, not $*; $(cat "$folder/$name.err")"
}
said() { grep -q -e "$2" "$folder/$1.err" || fail "$1 does not say: $2; but: $(cat "$folder/$1.err")"; }
silent() { [ ! -s "$folder/$1.err" ] || fail "$1 says: $(cat "$folder/$1.err")"; }
nothing_half() {
  local left
  left=$(find "$cache" -maxdepth 2 -name '.tmp-*')
  [ -z "$left" ] || fail "left behind: $left"
}
the_template() { ls -d "$templates"/????????????????* | grep -v LOCKS; }

# Two runs at once make it once.
run one "$folder/boot.test.lua" &
first=$!
run two "$folder/boot.test.lua" &
wait "$first" || exit 1
wait $! || exit 1
cat "$folder"/{one,two}.events > "$folder/both.events"
boots both cold template
cat "$folder"/{one,two}.err > "$folder/both.err"
said both "waiting for process .*, which is making a boot template"
pass "two runs made one template"

# Damage is told, removed and mended.
entry=$(the_template)
flip() { printf '\377' | dd of="$1" bs=1 seek="$2" conv=notrunc status=none; }
spoil() {
  case $1 in
    truncated) truncate -s -4096 "$entry/ram" ;;
    flipped-ram) flip "$entry/ram" 100000000 ;;
    flipped-devices) flip "$entry/devices" 1000 ;;
    missing) rm "$entry/devices" ;;
    future) sed -i 's/"version": 2/"version": 99/' "$entry/manifest.json" ;;
    foreign) sed -i 's/"key": "../"key": "00/' "$entry/manifest.json" ;;
    no-entry) rm -r "$entry"; echo > "$entry" ;;
    # What the manifest takes for untouched, QEMU refuses.
    decayed)
      touch -r "$entry/devices" "$folder/time"
      head -c "$(stat -c %s "$entry/devices")" /dev/zero > "$entry/devices"
      touch -r "$folder/time" "$entry/devices"
      ;;
  esac
}
for damage in truncated flipped-ram flipped-devices missing future foreign no-entry decayed; do
  spoil "$damage"
  run "$damage" "$folder/boot.test.lua"
  boots "$damage" cold
  said "$damage" "boot template.*$entry.* removed and rebuilt"
  LC_ALL=C grep -aqE "level.warning.about.template" "$folder/$damage.events" ||
    fail "$damage: no notice among the events"
  nothing_half
done
spoil missing
run json --json "$folder/boot.test.lua"
grep -q '"path":".*boot.test.lua".*"notices":\[{"level":"warning","about":"template","text":".*rebuilt"}\]' \
  "$folder/json.out" || fail "no notice under its file: $(cat "$folder/json.out")"
run mended "$folder/boot.test.lua"
boots mended template
silent mended
pass "damaged, foreign and future templates were told, removed and rebuilt"

# Room is made only of what nobody uses.
cat > "$folder/user.test.lua" <<'LUA'
local folder = assert(os.getenv("FOLDER"))
local function there(name) local f = io.open(folder .. "/" .. name); return f and f:close() end
test("uses what is evicted around it", function(t)
  local vm = provium:vm("v", "default"):boot()
  io.open(folder .. "/booted", "w"):close()
  wait_until(function() return there("evicted") end, {timeout = "60s"})
  vm:run("modprobe xfs"):assert_ok()
  local s = vm:snapshot()
  vm:reset()
  vm:restore(s)
  provium:vm("w", "default"):boot():run("true"):assert_ok()
end)
LUA
printf '[provium]\ncache_dir = "%s"\ncache_max_size = "1M"\n' "$cache" > "$folder/tiny.toml"
FOLDER=$folder run user "$folder/user.test.lua" &
user=$!
await "the user's boot" [ -e "$folder/booted" ]
echo 'test("boots another kind", function() provium:vm("v", "default", {memory = "192M"}):boot() end)' > "$folder/other.test.lua"
"$provium" --config "$folder/tiny.toml" "$folder/other.test.lua" > "$folder/tiny.out" 2>&1 ||
  fail "the run with a tiny cache failed: $(cat "$folder/tiny.out")"
touch "$folder/evicted"
wait "$user" || exit 1
boots user snapshot template template
pass "what is in use is not evicted"

# A run that is killed leaves a cache that can be used, and no process.
# killed NAME WHEN FILE: starts a run of FILE.test.lua and kills it once WHEN holds.
killed() {
  local name=$1 moment=$2 pid machines machine
  "$provium" --config "$folder/provium.toml" "$folder/$3.test.lua" > "$folder/killed.out" 2>&1 &
  pid=$!
  await "$name" "$moment" "$pid"
  machines=$(children "$pid")
  kill -KILL "$pid"
  wait "$pid" 2> /dev/null || true
  for machine in $machines; do await "the end of machine $machine, killed while $name" gone "$machine"; done
}
has_machine() { [ -n "$(children "$1")" ]; }
has_draft() { compgen -G "$templates/.tmp-*" > /dev/null; }
for moment in has_machine has_draft; do
  rm -rf "$templates"
  killed "making" "$moment" boot
  run "after-$moment" "$folder/boot.test.lua"
  boots "after-$moment" cold
  nothing_half
done
killed "restoring" has_machine boot
run after-restoring "$folder/boot.test.lua"
boots after-restoring template
nothing_half
# Its snapshots, which go with their handles, are swept.
cat > "$folder/holds.test.lua" <<'LUA'
test("holds a snapshot", function(t)
  local vm = provium:vm("v", "default"):boot()
  local s = vm:snapshot()
  io.open(assert(os.getenv("FOLDER")) .. "/saved", "w"):close()
  vm:run("sleep 1000")
  s:delete()
end)
LUA
has_snapshot() { [ -e "$folder/saved" ] && compgen -G "$cache/snapshots-v1/.tmp-*" > /dev/null; }
FOLDER=$folder killed "holding a snapshot" has_snapshot holds
run after-holding "$folder/boot.test.lua"
nothing_half
pass "a run killed while making, installing or restoring a template, or holding a snapshot, leaves nothing"

# Runs that do not see each other in /proc leave each other's snapshots alone, and so does a sweep what a
# lock file of somebody else's keeps.
cat > "$folder/apart.test.lua" <<'LUA'
local folder = assert(os.getenv("FOLDER"))
local function there(name) local f = io.open(folder .. "/" .. name); return f and f:close() end
test("keeps a snapshot while another run begins", function(t)
  local vm = provium:vm("v", "default"):boot()
  vm:write_file("/x", "kept")
  local s = vm:snapshot()
  io.open(folder .. "/held", "w"):close()
  wait_until(function() return there("begun") end, {timeout = "60s"})
  vm:unlink("/x")
  vm:restore(s)
  t:assert_eq(vm:read_file("/x"), "kept")
end)
LUA
apart=(unshare -r --pid --fork --mount-proc)
if "${apart[@]}" true 2> /dev/null; then
  FOLDER=$folder run apart "$folder/apart.test.lua" &
  holder=$!
  await "the snapshot" [ -e "$folder/held" ]
  "${apart[@]}" "$provium" --config "$folder/provium.toml" "$folder/boot.test.lua" > "$folder/inside.out" 2>&1 ||
    fail "the run in a namespace of its own failed: $(cat "$folder/inside.out")"
  touch "$folder/begun"
  wait "$holder" || exit 1
  nothing_half
  pass "runs in other PID namespaces leave live snapshots alone"
else
  pass "skipped: runs in other PID namespaces, since this user may not make one"
fi

# A link in the place of a lock file leads no write out of the cache, and is named.
echo precious > "$folder/precious"
lock=$templates/LOCKS/$(basename "$(the_template)")
rm "$lock"
ln -s "$folder/precious" "$lock"
run linked "$folder/boot.test.lua"
boots linked cold
said linked "no boot template can be used.*$lock. is not a lock file of the cache"
[ "$(cat "$folder/precious")" = precious ] || fail "a write has followed the link"
"$provium" --config "$folder/tiny.toml" "$folder/boot.test.lua" > "$folder/tiny.out" 2>&1 ||
  fail "a lock file that cannot be taken ends a run that makes room: $(cat "$folder/tiny.out")"
rm "$lock"
pass "a link in the place of a lock file is refused"

# Two runs have the same build command run one after the other.
mkdir "$folder/built"
kernel=$("$provium" setup | awk '$1 == "kernel" { print $2 }')
cat > "$folder/built/provium.toml" <<TOML
[provium]
cache_dir = "$cache"
[profiles.built]
build = "test ! -e busy && touch busy && rm -rf {out} && sleep 1 && mkdir {out} && cp $kernel {out}/kernel && rm busy"
build_out = "out"
kernel = "{out}/kernel"
TOML
builders=()
for one in 1 2; do
  "$provium" prepare built --config "$folder/built/provium.toml" > "$folder/built.$one" 2>&1 &
  builders+=($!)
done
for builder in "${builders[@]}"; do
  wait "$builder" || fail "two builds at once: $(cat "$folder"/built.[12])"
done
grep -q "waiting in .*/built. for process .* the build of profile .built." "$folder"/built.[12] ||
  fail "neither build has waited: $(cat "$folder"/built.[12])"
pass "two runs built one after the other"

# Without room for a template, boots are cold and said to be so; a snapshot says why it cannot be.
cat > "$folder/full.test.lua" <<'LUA'
test("boots twice, and cannot be saved", function(t)
  for i = 1, 2 do
    local vm = provium:vm("v" .. i, "default"):boot()
    vm:run("true"):assert_ok()
    local err = tostring(t:assert_raises(function() vm:snapshot() end))
    t:assert_contains(err, "snapshot()")
    t:assert_contains(err, "No space left")
    vm:run("true"):assert_ok()
  end
end)
LUA
cat > "$folder/full.sh" <<'SH'
set -euo pipefail
mount -t tmpfs -o size="$2" none "$1/full"
cp -a "$1"/cache/{accel-v*.json,guests-v*,kernels-v*} "$1/full"
"$3" --config "$1/full.toml" --save-events "$1/full.events" "$1/full.test.lua" > "$1/full.out" 2> "$1/full.err"
find "$1/full" -maxdepth 2 -name '.tmp-*' > "$1/full.left"
SH
if unshare -rm mount -t tmpfs none /mnt 2> /dev/null; then
  mkdir "$folder/full"
  printf '[provium]\ncache_dir = "%s/full"\n' "$folder" > "$folder/full.toml"
  # 40 MiB more than what is there already: a template takes about 70.
  size=$(du -sm "$cache"/{guests-v1,kernels-v1} | awk '{ sum += $1 } END { print sum + 40 }')m
  unshare -rm bash "$folder/full.sh" "$folder" "$size" "$provium" ||
    fail "the run on a full disk failed: $(cat "$folder"/full.{out,err})"
  boots full cold cold
  said full "no boot template could be kept.*No space left"
  [ ! -s "$folder/full.left" ] || fail "left on the full disk: $(cat "$folder/full.left")"
  pass "on a full disk, boots are cold"
else
  pass "skipped: a full disk, since this user may not mount one"
fi
