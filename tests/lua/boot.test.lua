-- Options of a boot, and boots that cannot work.
local function with_init(script, more)
  local opts = {files = {{path = "/init", content = "#!/bin/sh\n" .. script, mode = 0x1ed}}}
  for key, value in pairs(more or {}) do opts[key] = value end
  return opts
end

local function seconds_to_fail(t, fn)
  local before = host.now_ns()
  local err = t:assert_raises(fn)
  return tostring(err), (host.now_ns() - before) / 1e9
end

test("memory, cpus, command line, files, hwrng", function(t)
  local vm = provium:vm("v", "default", {memory = "128M", cpus = 2, kernel_cmdline_append = "first=1"})
  vm:boot{
    memory = "192M",
    kernel_cmdline_append = "second=2",
    rng_seed = 7,
    files = {{path = "/etc/deep/er/file", content = "there\0", perm = 0x180}},
  }
  t:assert_eq(vm:run("nproc").stdout, "2\n", "the creation's key stays")
  local total = tonumber(vm:read_file("/proc/meminfo"):match("MemTotal:%s+(%d+)"))
  t:assert(total > 130 * 1024 and total < 192 * 1024, total .. " kB")
  local cmdline = vm:read_file("/proc/cmdline")
  t:assert_contains(cmdline, "second=2")
  t:assert(not cmdline:find("first=1", 1, true), "the boot's key wins")
  t:assert_contains(cmdline, "console=ttyS0")
  t:assert_eq(vm:read_file("/etc/deep/er/file"), "there\0")
  t:assert_eq(vm:stat("/etc/deep/er/file").perm, 0x180)
  -- The guest's kernel reads from the stream, too, at any time: so a piece of one is searched for in
  -- the other.
  local function hwrng(machine)
    return (machine:run("head -c 4096 /dev/hwrng | od -An -v -tx1 | tr -d ' \\n'").stdout)
  end
  local piece = hwrng(vm):sub(2049, 2048 + 64)
  t:assert_eq(#piece, 64)
  local twin = provium:vm("twin", "default", {rng_seed = 7}):boot()
  t:assert_contains(hwrng(twin), piece, "the same seed gives the same stream")
  local other = provium:vm("other", "default", {rng_seed = 8}):boot()
  t:assert(not hwrng(other):find(piece, 1, true), "another seed gives another")
end)

test("every key of a boot wins over the creation's, and a reset keeps what the boot was given", function(t)
  local vm = provium:vm("v", "default", {
    memory = "128M", cpus = 1, kernel_cmdline = "made=1", kernel_cmdline_append = "more=1", rng_seed = 1,
    initial_time = 1000000000, files = {{path = "/made", content = "1"}}, agent_timeout = "1ms", cold = false,
  })
  local function is_as_booted(reset)
    t:assert_eq(vm:run("nproc").stdout, "2\n")
    local total = tonumber(vm:read_file("/proc/meminfo"):match("MemTotal:%s+(%d+)"))
    t:assert(total > 130 * 1024, total .. " kB")
    local cmdline = vm:read_file("/proc/cmdline")
    t:assert_match(cmdline, "booted=2.*more=2")
    t:assert(not cmdline:find("made=1", 1, true) and not cmdline:find("more=1", 1, true), cmdline)
    t:assert_eq(vm:read_file("/booted"), "2")
    t:assert_contains(tostring(t:assert_raises(function() vm:read_file("/made") end)), "ENOENT")
    local now = vm:clock():get()
    t:assert(now >= 1500000000.5 and now < 1500000600, reset .. tostring(now))
  end
  vm:boot{
    memory = "192M", cpus = 2, kernel_cmdline = "booted=2", kernel_cmdline_append = "more=2", rng_seed = 2,
    initial_time = 1500000000.5, files = {{path = "/booted", content = "2"}}, agent_timeout = "60s", cold = true,
  }
  is_as_booted("at boot: ")
  t:assert_eq(vm:stats().boot_kind, "cold")
  vm:reset()
  is_as_booted("after the reset: ")
  vm:shutdown()
  t:assert_contains(tostring(t:assert_raises(function() vm:boot{cold = true} end)), "agent_timeout",
    "the next boot begins with the creation's keys again")
end)

test("the guest's kernel is given the frequency of the counter that it reads", function(t)
  local vm = provium:vm("v", "default"):boot()
  local khz = vm:read_file("/proc/cmdline"):match("tsc_early_khz=(%d+)")
  if khz then
    t:assert_contains(vm:run("dmesg").stdout, ("Detected %d.%03d MHz"):format(khz // 1000, khz % 1000))
  else
    local clock = vm:read_file("/sys/devices/system/clocksource/clocksource0/current_clocksource")
    local processors = io.open("/proc/cpuinfo"):read("a")
    t:assert(clock == "kvm-clock\n" or not processors:find("constant_tsc", 1, true), clock)
  end
end)

test("the kernel's modules are within reach of modprobe", function(t)
  local vm = provium:vm("v", "default"):boot()
  vm:run("modprobe xfs"):assert_ok()
  t:assert_contains(vm:read_file("/proc/filesystems"), "xfs")
  t:assert_contains(vm:read_file("/proc/modules"), "libcrc32c", "with what it depends on")
  local r = vm:run("modprobe no_such_module")
  t:assert_neq(r.exit_code, 0)
  t:assert_contains(r.stderr, "no_such_module")
  vm:run("mkdir -p /mnt/x; mount -t overlay overlay -o lowerdir=/etc,upperdir=/none,workdir=/none /mnt/x")
  t:assert_contains(vm:read_file("/proc/filesystems"), "overlay", "the kernel asks by itself, too")
end)

test("an image's own /init is PID 1 and survives", function(t)
  local vm = provium:vm("v", "default", with_init([[
mount -t proc proc /proc
mount -t sysfs sys /sys
echo init runs > /init.log
exec sleep 100000
]])):boot()
  wait_until(function()
    local ok, cmdline = pcall(vm.read_file, vm, "/proc/1/cmdline") -- it is the init that mounts /proc
    return ok and cmdline:find("sleep")
  end, {timeout = 60})
  wait_until(function() return pcall(vm.read_file, vm, "/init.log") end, {timeout = 60})
  t:assert_eq(vm:run("echo hi").stdout, "hi\n")
  t:assert_contains(vm:read_file("/init.log"), "init runs")
end)

test("switch_root is followed", function(t)
  local vm = provium:vm("v", "default", with_init([[
mount -t proc proc /proc
mkdir /newroot
mount -t tmpfs tmpfs /newroot
cp -a /bin /sbin /usr /etc /newroot/ 2>/dev/null
[ -d /lib ] && cp -a /lib /newroot/
mkdir -p /newroot/proc /newroot/dev /newroot/tmp
echo new > /newroot/which
mount --move /proc /newroot/proc
exec switch_root /newroot /bin/sh -c 'exec sleep 100000'
]], {memory = "512M"})):boot()
  t:assert_eq(wait_until(function()
    local ok, text = pcall(vm.read_file, vm, "/which")
    return ok and text
  end, {timeout = 60, desc = "the new root"}), "new\n")
  t:assert_eq(vm:run("cat /which").stdout, "new\n")
  local f = vm:open_file("/which", {read = true})
  t:assert_eq(f:read(3), "new")
end)

test("an /init that halts is reported at once", function(t)
  local vm = provium:vm("v", "default", with_init("mount -t proc proc /proc; exec halt -f\n"))
  local err, took = seconds_to_fail(t, function()
    vm:boot()
    wait_until(function() return vm:state() == "dead" end, {timeout = 60})
    vm:run("true")
  end)
  t:assert_contains(err, "halt")
  t:assert(took < 250)
end)

local panics = {kernel_log = {"Attempted to kill init"}}
test("an /init that ends is a panic, reported at once", panics, function(t)
  local vm = provium:vm("v", "default", with_init("exit 3\n"))
  local err, took = seconds_to_fail(t, function()
    vm:boot()
    wait_until(function() return vm:state() == "dead" end, {timeout = 60})
    vm:run("true")
  end)
  t:assert_contains(err, "panic")
  t:assert_contains(err, "init")
  t:assert_contains(err, "console")
  t:assert(took < 250)
end)

test("too little memory, a wrong profile, a bad path", function(t)
  t:assert_contains(tostring(t:assert_raises(function() provium:vm("a", "defualt") end)), "default")
  t:assert_contains(tostring(t:assert_raises(function()
    provium:vm("b", "default", {memory = "1M"}):boot()
  end)), "32M")
  t:assert_contains(tostring(t:assert_raises(function()
    provium:vm("c", "default", {files = {{path = "relative", content = ""}}}):boot()
  end)), "relative")
  t:assert_contains(tostring(t:assert_raises(function()
    provium:vm("d", "default", {memroy = "1G"})
  end)), "memory")
end)

test("the UART is used without a virtio console", function(t)
  local vm = provium:vm("v", "default", {kernel_cmdline_append = "module_blacklist=virtio_console"}):boot()
  t:assert_eq(vm:run("echo over a uart").stdout, "over a uart\n")
  local bytes = string.rep("0123456789abcdef", 4096)
  vm:write_file("/tmp/x", bytes)
  t:assert_eq(vm:read_file("/tmp/x"), bytes)
  t:assert_eq(vm:run("ls /sys/class/virtio-ports 2>/dev/null").stdout, "")
end)

test("the UART under load: 1 MiB both ways while other calls run", {timeout = "280s"}, function(t)
  local vm = provium:vm("v", "default", {kernel_cmdline_append = "module_blacklist=virtio_console"}):boot()
  local bytes = string.rep("0123456789abcdef", 65536)
  local going, calls = true, 0
  local others = {}
  for i = 1, 4 do
    others[i] = co.spawn(function()
      while going do
        t:assert_eq(vm:run("echo " .. i).stdout, i .. "\n")
        t:assert_eq(vm:syscall("getuid").ret, 0)
        calls = calls + 1
      end
    end)
  end
  vm:write_file("/tmp/big", bytes)
  local meanwhile = calls
  t:assert(vm:read_file("/tmp/big") == bytes, "read_file differs")
  going = false
  for _, task in ipairs(others) do task:join("60s") end
  t:assert_contains(vm:run("sha256sum /tmp/big").stdout, hash.sha256(bytes))
  t:assert(meanwhile > 0 and calls > meanwhile, "no call starved")
  t:log(calls .. " rounds of other calls meanwhile")
end)

test("the error of a boot that fails holds the console's end as the guest wrote it, and is reported once", function(t)
  local vm = provium:vm("v", "default", {kernel_cmdline_append = "ignore_loglevel initcall_blacklist=populate_rootfs", cold = true})
  local err = tostring(t:assert_raises(function() vm:boot() end))
  t:assert_contains(err, "panic")
  local log = vm:console():read_log()
  t:assert(#log > 5000, #log .. " bytes of console")
  t:assert(err:find(log:sub(-4500, -200), 1, true), "the console's end is not in: " .. err)
end)

test("an init that cannot be run is named where the kernel's panic is", function(t)
  local vm = provium:vm("v", "default", {files = {{path = "/init", content = "#!/no/such/shell\n", mode = 0x1ed}}, cold = true})
  local err = seconds_to_fail(t, function()
    vm:boot()
    wait_until(function() return vm:state() == "dead" end, {timeout = 60})
    vm:run("true")
  end)
  t:assert_contains(err, "cannot run /init")
  vm:close()
end)

test("a guest that switches itself off in its boot is reported as that", function(t)
  local vm = provium:vm("v", "default", with_init("mount -t proc proc /proc; exec poweroff -f\n"))
  local err = seconds_to_fail(t, function()
    vm:boot()
    wait_until(function() return vm:state() == "dead" end, {timeout = 60})
    vm:run("true")
  end)
  t:assert_contains(err, "powered itself off")
end)

test("an agent is waited for no longer than its test has, and the error names both limits", {timeout = "20s"}, function(t)
  -- Neither of the two ports that an agent can use.
  local vm = provium:vm("v", "default", {
    kernel_cmdline_append = "module_blacklist=virtio_console 8250.nr_uarts=1", agent_timeout = "100s", cold = true,
  })
  local err = tostring(t:assert_raises(function() vm:boot() end))
  t:assert_contains(err, "time limit of the test")
  t:assert_contains(err, "`agent_timeout` is 100s")
  t:assert_match(err, "vCPU 0 is [hr]%a+ at 0x%x+; QEMU has used %d+%.%d s of processor time")
end)

test("agent_timeout bounds the boot, and the error names what to raise", function(t)
  local vm = provium:vm("v", "default", with_init("exec sleep 1000\n", {agent_timeout = "1ms"}))
  local err = seconds_to_fail(t, function() vm:boot() end)
  t:assert_contains(err, "agent_timeout")
  t:assert_eq(vm:state(), "created")
end)
