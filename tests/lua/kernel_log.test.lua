-- What a guest's kernel reports about itself fails the test in which it came, unless that expects it.
-- Root can write lines to the kernel's log: they look like the kernel's own.
local vm = provium:vm("v", "default"):boot()

local function kernel_says(text) vm:write_file("/dev/kmsg", text .. "\n") end

test("a bug fails a test whose assertions hold", {expect_fail = "the kernel says BUG"}, function(t)
  kernel_says("<3>BUG: unable to handle page fault for address: 0000000000000000")
end)

test("what failed one test does not fail the next", function(t)
  t:assert_eq(vm:run("true").exit_code, 0)
end)

test("nor by way of a lab that the VM is put into", function(t)
  provium:lab("group"):include(vm)
  t:assert_eq(vm:run("true").exit_code, 0)
end)

test("a warning is only reported", function(t)
  local before = vm:console():mark()
  kernel_says("<4>WARNING: CPU: 0 PID: 1 at kernel/made_up.c:1 f+0x1/0x2")
  -- Warnings reach the console although the guest was booted with `quiet`.
  vm:console():expect("made_up.c", "60s")
  t:assert_match(vm:console():since(before), "%[ *%d+%.%d+%]")
end)

test("what is expected fails nothing", {kernel_log = {"made-up (1)", "blocked"}}, function(t)
  kernel_says("<3>BUG: made-up (1)")
  kernel_says("<3>INFO: task sh:7 blocked for more than 120 seconds.")
end)

test("what is not among it does", {kernel_log = {"made-up (1)"}, expect_fail = "another"}, function(t)
  kernel_says("<3>BUG: made-up (1)")
  kernel_says("<3>BUG: made-up (2)")
end)

test("all can be left to the test", {kernel_log = "ignore"}, function(t)
  kernel_says("<2>kernel BUG at fs/made_up.c:1!")
end)

test("a program's words are not the kernel's", function(t)
  vm:run("echo 'BUG: said by a program' > /dev/console")
  vm:console():expect("said by a program", "60s")
end)

test("a panic fails a test that does not expect it", {expect_fail = "the kernel panics"}, function(t)
  local doomed = provium:vm("doomed", "default"):boot()
  pcall(doomed.write_file, doomed, "/proc/sysrq-trigger", "c")
  wait_until(function() return doomed:state() == "dead" end, {timeout = 60})
end)
