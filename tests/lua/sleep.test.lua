-- S3: a guest suspends to RAM, and is woken.
local function goes_to_sleep(vm)
  return co.spawn(function() return pcall(vm.run, vm, "echo mem > /sys/power/state") end)
end

-- Only a guest that sleeps can be woken, and only that shows that it sleeps.
local function wakes(t, vm)
  wait_until(function()
    local woken, err = pcall(vm.wakeup, vm)
    if not woken then t:assert_contains(tostring(err), "vm `v`: wakeup(): the guest does not sleep (S3)") end
    return woken
  end, {timeout = 100, interval = 0.02})
end

local function sleeps_and_wakes(t, vm)
  local worker = vm:spawn_worker()
  local process = vm:run_async("while read line; do echo got $line; done")
  vm:write_file("/tmp/kept", "kept")
  for _ = 1, 2 do
    local before = vm:clock():get()
    local asleep = goes_to_sleep(vm)
    wakes(t, vm)
    local ok, result = asleep:join("60s")
    t:assert(ok, result)
    t:assert_eq(result.exit_code, 0, "the command in which it slept continues")
    t:assert_eq(vm:state(), "booted")
    t:assert_eq(worker:run("cat /tmp/kept").stdout, "kept")
    t:assert(vm:clock():get() > before)
  end
  process:stdin_write("x\n")
  process:close_stdin()
  t:assert_eq(process:wait("60s").stdout, "got x\n")
  local bytes = string.rep("0123456789abcdef", 65536)
  vm:write_file("/tmp/large", bytes)
  t:assert(vm:read_file("/tmp/large") == bytes)
  -- The chipset's power management works as before.
  vm:power_button()
  t:assert_eq(vm:state(), "shutdown")
end

test("a guest of a cold boot", function(t)
  local vm = provium:vm("v", "sleeper"):boot{cold = true}
  t:assert_contains(tostring(t:assert_raises(function() vm:wakeup() end)), "the guest does not sleep (S3)")
  sleeps_and_wakes(t, vm)
end)

test("a guest of a template, with what it got from one", function(t)
  provium:vm("first", "sleeper"):boot():close()
  local vm = provium:vm("v", "sleeper"):boot()
  t:assert_eq(vm:stats().boot_kind, "template")
  sleeps_and_wakes(t, vm)
end)

-- Whether a debugger that connects gets the reason of the stop; the VM continues then.
local function answers(address)
  local port = address:match(":(%d+)")
  return os.execute(([=[bash -c 'exec 3<>/dev/tcp/127.0.0.1/%s; printf "+\$?#3f" >&3; read -r -t 20 -n 5 said <&3
    printf "+\$D#44" >&3; read -r -t 20 -n 6 <&3; [[ $said == *\$T0* ]]']=]):format(port))
end

test("a debugger finds a guest that was woken, at the address that it had", function(t)
  local vm = provium:vm("v", "sleeper"):boot()
  local address
  for _ = 1, 2 do
    local asleep = goes_to_sleep(vm)
    wakes(t, vm)
    local ok, result = asleep:join("60s")
    t:assert(ok, result)
    -- Woken once without a stub, and once with one.
    address = address or vm:gdb()
    t:assert_eq(vm:gdb(), address)
    t:assert(answers(address), "no answer from the stub")
    t:assert_eq(vm:run("echo on").stdout, "on\n")
  end
end)

test("a sleeping guest can be reset, and switched off", function(t)
  local vm = provium:vm("v", "sleeper", {kernel_cmdline = "loglevel=7"}):boot()
  local asleep = goes_to_sleep(vm)
  vm:console():expect("printk: Suspending console", "60s")
  vm:reset()
  local ok, err = asleep:join("60s")
  t:assert(not ok)
  t:assert_contains(tostring(err), "reset")
  t:assert_eq(vm:run("echo back").stdout, "back\n")
  goes_to_sleep(vm)
  -- A snapshot may be taken until it sleeps.
  local err
  wait_until(function()
    local taken, why = pcall(vm.snapshot, vm)
    err = tostring(why)
    return not taken
  end, {timeout = 60})
  t:assert_contains(err, "the guest sleeps (S3)")
  local before = host.now_ns()
  t:assert_contains(tostring(t:assert_raises(function() vm:power_button() end)), "the guest sleeps (S3)")
  t:assert((host.now_ns() - before) / 1e9 < 20, "power_button waited")
  vm:shutdown()
  t:assert_eq(vm:state(), "shutdown")
end)
