-- Guests of every origin: files, a root folder, packages; and origins that cannot work.

local function fails(t, seconds, fn, ...)
  local before = host.now_ns()
  local err = tostring(t:assert_raises(fn))
  for _, part in ipairs{...} do t:assert_contains(err, part) end
  t:assert((host.now_ns() - before) / 1e9 < seconds, "it was told too late")
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

test("an ELF kernel cannot be woken, and the error names what can", function(t)
  fails(t, 20, function()
    provium:vm("v", "sleepless"):boot()
  end, "vm `v`: boot()", "`sleepless` has `s3 = true`", "/vmlinux` is an ELF file", "bzImage")
end)

test("a broken initrd is told quickly, with the kernel's words", function(t)
  local vm = provium:vm("v", "broken")
  fails(t, 60, function()
    vm:boot()
  end, "vm `v`", "boot()")
end)

local no_init = {kernel_log = {"Unable to mount root fs"}}
test("a guest without the agent is waited for as long as the profile says", no_init, function(t)
  local vm = provium:vm("v", "bare")
  fails(t, 60, function() vm:boot() end, "boot()")
  t:assert_contains(vm:console():read_log(), "Unable to mount root fs", "the console of a failed boot stays")
end)
