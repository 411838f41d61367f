-- Boot templates: a boot of a known kind continues from where an earlier one was saved, invisibly for the guest.

local machines = require "helpers.machines"

-- A kind that only this file boots: other files do not affect it.
local kind = {kernel_cmdline_append = "kind=" .. host.now_ns()}
local function boot(name, more)
  local opts = {}
  for key, value in pairs(kind) do opts[key] = value end
  for key, value in pairs(more or {}) do opts[key] = value end
  return provium:vm(name, "default", opts):boot()
end

local first = boot("first")

test("the first boot of a kind is cold, the next are from its template", function(t)
  t:assert_eq(first:stats().boot_kind, "cold")
  local second = boot("second")
  t:assert_eq(second:stats().boot_kind, "template")
  t:assert_eq(boot("third", {cold = true}):stats().boot_kind, "cold", "cold is cold")
  t:assert_eq(boot("more", {memory = "192M"}):stats().boot_kind, "cold", "another kind")
  -- From a warm VM, once one exists, it is the same.
  for i = 1, 4 do
    local name = "again-" .. i
    local vm = boot(name)
    t:assert_eq(vm:stats().boot_kind, "template")
    t:assert_eq(vm:run("hostname").stdout, name .. "\n")
    vm:close()
  end
end)

test("two VMs of one template differ in name, chance and boot, and in nothing else", function(t)
  local one, two = boot("one"), boot("two")
  t:assert_eq(one:run("hostname").stdout, "one\n")
  t:assert_eq(two:run("hostname").stdout, "two\n")
  for _, different in ipairs{
    "cat /proc/sys/kernel/random/boot_id", "cat /proc/sys/kernel/random/uuid",
    "head -c 32 /dev/urandom | od -An -tx1", "head -c 32 /dev/hwrng | od -An -tx1",
  } do
    local a, b = one:run(different):assert_ok().stdout, two:run(different):assert_ok().stdout
    t:assert_neq(a, b, different)
    t:assert_neq(a, first:run(different).stdout, "nor is it that of the VM that the template was made of")
  end
  for _, same in ipairs{
    "cat /proc/cmdline", "ps -o pid,args | grep -v -e 'ps -o' -e '\\[' -e grep", "cat /proc/mounts", "ls -laR /etc /root /tmp",
    "cat /proc/modules | cut -d' ' -f1-2 | sort", "cat /sys/class/net/lo/operstate /proc/sys/kernel/threads-max",
  } do
    t:assert_eq(one:run(same):assert_ok().stdout, two:run(same).stdout, same)
  end
end)

test("its clock is right, or at `initial_time`", function(t)
  t:assert_near(boot("now"):clock():get(), host.now_ns() / 1e9, 30)
  local vm = boot("then", {initial_time = 1000000000})
  t:assert_eq(vm:stats().boot_kind, "template")
  t:assert_near(vm:clock():get(), 1000000000, 60)
end)

-- How often the RAM of a saved machine contains a text.
local function occurrences(ram, text)
  local pipe = io.popen(("LC_ALL=C grep -aoF -e '%s' '%s' | wc -l"):format(text, ram))
  local count = tonumber(pipe:read("a"))
  pipe:close()
  return count
end

-- The RAM of the template of a kind: of those saved last, the one with its kernel command line.
local function template_ram(cache, mark)
  local pipe = io.popen("ls -t '" .. cache .. "'/templates-*/*/ram | head -n 20")
  for ram in pipe:lines() do
    if occurrences(ram, mark) > 0 then pipe:close() return ram end
  end
  error("no template was made of " .. mark)
end

test("a template contains neither name, entropy nor clock of the VM that it was made of", function(t)
  local name, mark = "maker-" .. host.now_ns(), "kind=of-" .. host.now_ns()
  local kind = {kernel_cmdline_append = mark, initial_time = 1000000000}
  local maker = provium:vm(name, "default", kind):boot()
  t:assert_eq(maker:stats().boot_kind, "cold")
  local snapshot = maker:snapshot()
  kind.initial_time = nil
  local other = provium:vm("other", "default", kind):boot()
  t:assert_eq(other:stats().boot_kind, "template")

  local cache = snapshot:path():match("^(.*)/snapshots")
  local ram = template_ram(cache, mark)
  -- The name, and the request that contains name, entropy and clock: its name as a msgpack string.
  for _, text in ipairs{name, "\xabSetIdentity"} do
    t:assert_eq(occurrences(ram, text), 0, "in the template")
    t:assert(occurrences(snapshot:path() .. "/ram", text) > 0, "in a snapshot of the VM that made it")
  end

  t:assert_eq(maker:run("hostname").stdout, name .. "\n")
  t:assert_eq(other:run("hostname").stdout, "other\n")
  t:assert_near(maker:clock():get(), 1000000000, 30)
  t:assert_near(other:clock():get(), host.now_ns() / 1e9, 30)
  -- The template's kernel was not booted with that time, either.
  t:assert_near(other:stat("/proc/1").mtime, host.now_ns() / 1e9, 600)
  local uuid = "cat /proc/sys/kernel/random/uuid"
  t:assert_neq(maker:run(uuid).stdout, other:run(uuid).stdout)
end)

test("its console's log goes back to the kernel's first line", function(t)
  local opts = {kernel_cmdline = "console=ttyS0", kernel_cmdline_append = kind.kernel_cmdline_append}
  local cold = boot("loud")
  cold:write_file("/dev/kmsg", "<1>in an earlier boot\n")
  cold:console():expect("in an earlier boot")
  cold:shutdown()
  cold:boot(opts)
  local warm = boot("loud-again", opts)
  t:assert_eq(warm:stats().boot_kind, "template")
  t:assert_contains(warm:console():read_log(), "Linux version")
  t:assert_contains(cold:console():read_log(), "Linux version")
  t:assert_eq(cold:console():count("in an earlier boot"), 1)
  t:assert_eq(warm:console():count("in an earlier boot"), 0)
end)

test("it can do what a booted one can", function(t)
  local vm = boot("able")
  vm:run("modprobe xfs"):assert_ok()
  vm:write_file("/tmp/x", "x")
  vm:reset()
  t:assert_eq(vm:run("hostname; ls /tmp/x").stdout, "able\n")
  vm:shutdown()
  vm:boot()
  t:assert_eq(vm:stats().boot_kind, "template")
  vm:power_button()
  t:assert_eq(vm:state(), "shutdown")
end)

test("files of a boot are part of the kind", function(t)
  local function with(content) return {files = {{path = "/etc/given", content = content}}} end
  for i, content in ipairs{"one", "one", "two"} do
    local vm = boot("given-" .. i, with(content))
    t:assert_eq(vm:read_file("/etc/given"), content)
    t:assert_eq(vm:stats().boot_kind, i == 2 and "template" or "cold")
  end
end)

test("a clock that the guest's kernel refuses fails its boot, and leaves the template as it is", function(t)
  local err = t:assert_raises(function() boot("wrong", {initial_time = 9e9}) end)
  t:assert_contains(tostring(err), "clock")
  t:assert_eq(boot("after"):stats().boot_kind, "template")
end)

test("two boots of a kind whose init ends come to the same: its panic", {kernel_log = {"Attempted to kill init"}}, function(t)
  for i = 1, 2 do
    local vm = provium:vm("ends-" .. i, "default", {
      kernel_cmdline_append = kind.kernel_cmdline_append,
      files = {{path = "/init", content = "#!/bin/sh\nexit 3\n", mode = 0x1ed}},
    })
    local err = t:assert_raises(function()
      vm:boot()
      wait_until(function() return vm:state() == "dead" end, {timeout = 60})
      vm:run("true")
    end)
    t:assert_contains(tostring(err), "Attempted to kill init")
  end
end)

-- A VM of a kind, from the template, on a machine that was not warm: the first of its kind is.
local function direct_of(name, more)
  boot(name .. "-cold", more):close()
  local vm = boot(name .. "-direct", more)
  assert(machines.started_as(name .. "-direct"), "restored for this VM")
  return vm
end

-- A VM of a kind on a warm machine, which is made in the background from the second restore on.
local tries = 0
local function warm_of(name, more)
  return wait_until(function()
    tries = tries + 1
    local called = ("%s-warm-%d"):format(name, tries)
    local vm = boot(called, more)
    if not machines.started_as(called) then return vm end
    vm:close()
  end, {timeout = "240s", interval = "100ms", desc = "a warm VM"})
end

local function last_pid(vm) return tonumber(vm:read_file("/proc/loadavg"):match("(%d+)%s*$")) end

test("a warm VM has run a command, and differs from another one in nothing else", {timeout = "250s"}, function(t)
  local kind = {kernel_cmdline_append = "kind=warm-" .. host.now_ns()}
  local direct = direct_of("seen", kind)
  -- Read at once, since the guest's kernel starts threads as time goes by.
  local fresh = last_pid(direct)
  local one = warm_of("seen", kind)
  t:assert(last_pid(one) > fresh, "its first command is not the guest's first")
  local two = warm_of("seen", kind)
  for _, vm in ipairs{one, two} do
    t:assert_eq(vm:stats().boot_kind, "template")
    t:assert_eq(vm:run("hostname").stdout, vm:name() .. "\n")
    t:assert_near(vm:clock():get(), host.now_ns() / 1e9, 30)
    t:assert_eq(vm:console():read_log(), direct:console():read_log())
  end
  for _, different in ipairs{
    "cat /proc/sys/kernel/random/boot_id", "head -c 32 /dev/urandom | od -An -tx1", "head -c 32 /dev/hwrng | od -An -tx1",
  } do
    local seen = {}
    for _, vm in ipairs{direct, one, two} do seen[vm:run(different):assert_ok().stdout] = true end
    local count = 0
    for _ in pairs(seen) do count = count + 1 end
    t:assert_eq(count, 3, different)
  end
  for _, same in ipairs{
    "ps -o ppid,stat,args | grep -v -e 'ps -o' -e '\\[' -e grep", "ps -o stat | grep Z; true", "ls -laR /etc /root /tmp /run",
    "cat /proc/mounts", "grep -e Sig -e Cap -e Seccomp -e Groups /proc/self/status", "ls -l /proc/self/fd | cut -c1-10",
    "dmesg | sed 's/^[^]]*] //' | grep -v -e tsc: -e clocksource:", -- printed a second or two after the boot
  } do
    t:assert_eq(one:run(same):assert_ok().stdout, direct:run(same).stdout, same)
  end
  local then_ = warm_of("seen", {kernel_cmdline_append = kind.kernel_cmdline_append, initial_time = 1000000000})
  t:assert_near(then_:clock():get(), 1000000000, 60)
end)

-- What a guest has of its NIC, with words in place of what is its own.
local function network_of(vm, net)
  local nic = net:nic(vm)
  local mac = {}
  for byte in nic:mac():gmatch("%x+") do mac[#mac + 1] = tonumber(byte, 16) end
  -- RFC 4291, appendix A.
  local link_local = ("fe80::%x:%x:%x:%x"):format(
    (mac[1] ~ 2) << 8 | mac[2], mac[3] << 8 | 0xff, 0xfe00 | mac[4], mac[5] << 8 | mac[6])
  local seen = {}
  for _, command in ipairs{
    "ip address show", "ip route", "ip -6 route", "cat /etc/hosts", "ls -A /etc /sys/class/net",
    "cd /sys/class/net/eth0; grep . address addr_assign_type mtu flags operstate carrier",
    "cd /proc/sys/net; grep -s . ipv4/conf/*/* ipv6/conf/*/*; true",
  } do
    local said = vm:run(command):assert_ok().stdout
    for word, own in pairs{MAC = nic:mac(), IP = nic:ip() .. "/", IP6 = nic:ip6() .. "/", LINK_LOCAL = link_local .. "/", SRC = "src " .. nic:ip()} do
      said = said:gsub(own:gsub("%p", "%%%0"), word)
    end
    seen[command] = said
  end
  return seen
end

test("a warm VM has the NICs of a cold one, and nothing of its preparation", {timeout = "250s"}, function(t)
  local net = provium:bridge("net")
  local kind = {kernel_cmdline_append = "kind=nics-" .. host.now_ns(), nics = {net}}
  local direct, warm = direct_of("nics", kind), warm_of("nics", kind)
  local cold = boot("nics-cold-2", {kernel_cmdline_append = kind.kernel_cmdline_append, nics = {net}, cold = true})
  t:assert_eq(cold:stats().boot_kind, "cold")
  warm:check("ping -c 1 -W 20 " .. cold:name())
  local expected = network_of(cold, net)
  t:assert_contains(expected["ip address show"], "inet6 LINK_LOCAL64")
  t:assert_contains(expected["ip address show"], "inet IP24")
  for _, vm in ipairs{direct, warm} do
    local found = network_of(vm, net)
    for command, said in pairs(expected) do t:assert_eq(found[command], said, vm:name() .. ": " .. command) end
  end
end)

test("a guest without a shell, or with a seed, has warm VMs as well", {timeout = "250s"}, function(t)
  local no_shell = {files = {{path = "/bin/sh", content = "", mode = 0x1a4}}}
  direct_of("no-shell", no_shell):close()
  local vm = warm_of("no-shell", no_shell)
  t:assert_eq(vm:run({"/bin/busybox", "echo", "on"}).stdout, "on\n")
  -- The kernel reads from the stream, too, at any time: so a piece of one is searched for in the other.
  local function stream(of) return of:run("head -c 4096 /dev/hwrng | od -An -v -tx1 | tr -d ' \\n'"):assert_ok().stdout end
  local seeded = {rng_seed = 7}
  local direct, warm = direct_of("seeded", seeded), warm_of("seeded", seeded)
  t:assert_contains(stream(warm), stream(direct):sub(2049, 2048 + 64))
end)
