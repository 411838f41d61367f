-- The QEMU processes of this run, and guests that end themselves.
local machines = {}

-- What a guest's shell runs to end at once.
machines.PANIC = "echo c > /proc/sysrq-trigger"
machines.POWER_OFF = "echo o > /proc/sysrq-trigger"

-- Runs `command`, which ends the guest of `vm`, and waits for the end. Nothing orders the reply of a call and the end
-- of its guest: an error of the call is not a failure.
function machines.end_by(vm, command)
  pcall(vm.run_async, vm, command)
  wait_until(function() return vm:state() == "dead" end, {timeout = 60, desc = command})
end

-- Waits until the init of a guest with one of its own has become `sleep`: it has mounted /proc by then. A boot waits
-- for the agent only.
function machines.await_init(vm)
  wait_until(function()
    local ok, cmdline = pcall(vm.read_file, vm, "/proc/1/cmdline")
    return ok and cmdline:find("sleep", 1, true)
  end, {timeout = 60, desc = "the guest's own init"})
end

-- The process of the QEMU that was started as the machine of the VM `name`, or nil. One that was restored before it
-- was assigned to a VM was started under another name.
function machines.started_as(name)
  local pipe = io.popen([[for f in /proc/$PPID/task/*/children; do cat $f 2>/dev/null; done]])
  local pids = pipe:read("a")
  pipe:close()
  for pid in pids:gmatch("%d+") do
    local cmdline = io.open(("/proc/%s/cmdline"):format(pid))
    local started = cmdline and cmdline:read("a"):match("guest=([^,]*),")
    if cmdline then cmdline:close() end
    if started == name then return pid end
  end
  return nil
end

return machines
