-- The QEMU processes of this run.
local machines = {}

-- Whether a QEMU runs that was started as the machine of the VM `name`. One that was restored before it was
-- assigned to a VM was started under another name.
function machines.started_as(name)
  local pipe = io.popen([[for f in /proc/$PPID/task/*/children; do cat $f 2>/dev/null; done]])
  local pids = pipe:read("a")
  pipe:close()
  for pid in pids:gmatch("%d+") do
    local cmdline = io.open(("/proc/%s/cmdline"):format(pid))
    local started = cmdline and cmdline:read("a"):match("guest=([^,]*),")
    if cmdline then cmdline:close() end
    if started == name then return true end
  end
  return false
end

return machines
