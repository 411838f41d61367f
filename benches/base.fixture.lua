-- What a fixture's restore is measured with: a VM whose build took a while.
local vm = provium:vm("base", "default"):boot()
vm:write_file("/tmp/built", ("x"):rep(65536))
return vm:snapshot()
