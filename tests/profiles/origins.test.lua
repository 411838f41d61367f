-- Guests of every origin: files, a root folder, packages; and origins that cannot work.

local function fails(t, seconds, fn, ...)
  local before = host.now_ns()
  local err = tostring(t:assert_raises(fn))
  for _, part in ipairs{...} do t:assert_contains(err, part) end
  t:assert((host.now_ns() - before) / 1e9 < seconds, "it was reported too late")
end

test("a kernel and an initrd of one's own", function(t)
  local vm = provium:vm("v", "files"):boot()
  t:assert_eq(vm:run("echo hi").stdout, "hi\n")
  t:assert_eq(vm:profile(), "files")
end)

test("a root folder, with its init as PID 1", function(t)
  local vm = provium:vm("v", "root"):boot()
  wait_until(function() return (pcall(vm.stat, vm, "/tmp/init-ran")) end, {timeout = 30})
  -- The init says that it ran before it becomes something else.
  wait_until(function() return vm:read_file("/proc/1/cmdline"):find("sleep", 1, true) end, {timeout = 30})
  t:assert_eq(vm:run("echo hi").stdout, "hi\n")
end)

test("packages of the distribution, with what they need", function(t)
  local vm = provium:vm("v", "packages"):boot()
  t:assert_eq(vm:run([[sqlite3 :memory: "select 6 * 7"]]):assert_ok().stdout, "42\n")
  vm:run("truncate -s 16M /tmp/img && mkfs.ext4 -q /tmp/img && e2fsck -fn /tmp/img"):assert_ok()
end)

local no_init = {kernel_log = {"Unable to mount root fs"}}
test("a guest without the agent is waited for as long as the profile says", no_init, function(t)
  local vm = provium:vm("v", "bare")
  fails(t, 60, function() vm:boot() end, "boot()")
  t:assert_contains(vm:console():read_log(), "Unable to mount root fs", "the console of a failed boot stays")
end)

test("a kernel and modules of a root folder, with another initrd", function(t)
  local vm = provium:vm("v", "mixed"):boot()
  t:assert_eq(vm:run("echo hi").stdout, "hi\n")
  t:assert_contains(vm:read_file("/proc/modules"), "virtio_console", "loaded for the agent")
  t:assert(not pcall(vm.stat, vm, "/usr/lib/modules/0"), "the tree of the root is not in the guest")
  local cmdline = vm:read_file("/proc/cmdline")
  t:assert_contains(cmdline, "quiet console=ttyS0 rdinit=")
  t:assert(not cmdline:find("mitigations", 1, true), "a kernel of one's own works as it was built to")
  t:assert_contains(provium:vm("d", "default"):boot():read_file("/proc/cmdline"), "mitigations=off")
end)

test("the built-in guest under a kernel of one's own, with that kernel's modules", function(t)
  local vm = provium:vm("v", "under"):boot()
  t:assert_eq(vm:run("seq 2 | sort -r").stdout, "2\n1\n")
  t:assert_contains(vm:read_file("/proc/modules"), "virtio_console")
  t:assert(not vm:read_file("/proc/cmdline"):find("mitigations", 1, true))
  t:assert_contains(vm:run("modprobe xfs").stderr, "xfs not found", "only those of the given directory")
end)

test("a kernel of one's own has a shell, and the modules of its build", function(t)
  local vm = provium:vm("v", "own"):boot()
  t:assert_eq(vm:run("seq 2 | sort -r"):assert_ok().stdout, "2\n1\n")
  t:assert_contains(vm:read_file("/proc/modules"), "virtio_console", "loaded for the agent")
  t:assert_contains(vm:run("modprobe xfs").stderr, "xfs not found", "it was not built")
  local cmdline = vm:read_file("/proc/cmdline")
  t:assert(not cmdline:find("mitigations", 1, true) and not cmdline:find("quiet", 1, true), cmdline)
end)

test("a kernel without user space says that the shell is missing", function(t)
  local vm = provium:vm("v", "alone"):boot()
  t:assert_contains(tostring(t:assert_raises(function() vm:run("true") end)), "run `/bin/sh`")
  t:assert_eq(vm:read_file("/proc/1/comm"), "provium-agent\n")
end)

test("an /init that cannot be run is named, with the reason", function(t)
  fails(t, 60, function() provium:vm("v", "dangling"):boot() end,
    "boot(): the agent says: cannot run /init: ENOENT (No such file or directory)", "a link to a file that does not exist")
  fails(t, 60, function() provium:vm("w", "directory"):boot() end,
    "boot(): the agent says: cannot run /init: EACCES (Permission denied); it is a directory")
end)

-- Image's own agents: commands, files, raw calls and workers work as in any guest.
local function works(t, vm)
  t:assert_eq(vm:run("echo hi").stdout, "hi\n")
  vm:write_file("/run/x", "there")
  t:assert_eq(vm:read_file("/run/x"), "there")
  local worker = vm:spawn_worker()
  t:assert_eq(worker:run("busybox cat /run/x").stdout, "there")
end

test("an image whose /init is the agent", function(t)
  local vm = provium:vm("v", "agent-first"):boot()
  works(t, vm)
  t:assert_eq(vm:read_file("/proc/1/comm"), "provium-agent\n")
  t:assert_contains(vm:read_file("/proc/mounts"), " /sys sysfs", "it does an init's duties")
  t:assert(not pcall(vm.stat, vm, "/sbin/provium-agent"), "nothing is added to an image with its own agent")
end)

test("an image whose init executes the agent under another name", function(t)
  local vm = provium:vm("v", "agent-last"):boot()
  works(t, vm)
  t:assert_eq(vm:read_file("/proc/1/comm"), "provium-agent\n")
  t:assert(vm:stat("/dev/kept"), "what was mounted stays on top")
  t:assert_contains(vm:read_file("/proc/mounts"), "devices /dev tmpfs")
  t:assert_eq(select(2, vm:read_file("/proc/mounts"):gsub(" /proc proc ", "")), 1, "and is not mounted twice")
end)

test("an image whose init starts the agent late and in the background", function(t)
  local vm = provium:vm("v", "agent-late"):boot()
  t:assert_eq(vm:read_file("/run/stage"), "stage two\n", "boot() waits for the agent of the image")
  works(t, vm)
  t:assert_contains(vm:read_file("/proc/1/cmdline"), "sleep")
  t:assert_eq(vm:read_file("/proc/sys/kernel/hostname"), "own-name\n")
  t:assert(not vm:read_file("/proc/mounts"):find("sysfs", 1, true), "the system is left as it is")
  t:assert_eq(vm:run("pwd; umask; ulimit -n; echo $LEFT").stdout, "/\n0022\n1024\n\n", "nothing of what started it is left over")
  t:assert_contains(vm:run("busybox ls -l /proc/*/fd 2>/dev/null").stdout, "/vport", "it found the fast line to the host")

  local second = vm:run("/bin/helper")
  t:assert_eq(second.exit_code, 1)
  t:assert_eq(second.stderr, "provium-agent: an agent serves this guest already\n")

  local again = provium:vm("again", "agent-late"):boot()
  t:assert_eq(again:stats().boot_kind, "template")
  works(t, again)
  again:reset()
  works(t, again)
  local snapshot = vm:snapshot()
  vm:write_file("/run/x", "changed")
  vm:restore(snapshot)
  t:assert_eq(vm:read_file("/run/x"), "there")
end)

test("an init that powers off before it starts the agent is a failed boot", function(t)
  local vm = provium:vm("v", "agent-late", {kernel_cmdline_append = "halt_early"})
  fails(t, 60, function() vm:boot() end, "boot()")
end)
