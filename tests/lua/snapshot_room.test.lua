-- What a restore takes from a claim: at most the larger of the running and the restored machine.

provium:claim{memory = "356M", cpus = 1} -- one VM of 256 MiB

test("going back to a larger snapshot, and from it", function(t)
  local vm = provium:vm("v", "default", {memory = "128M"})
  vm:boot{memory = "256M"}
  vm:write_file("/tmp/when", "large")
  local large = vm:snapshot()
  vm:shutdown()
  vm:boot()
  local small = vm:snapshot()
  local other = provium:vm("w", "default", {memory = "128M"})
  for _ = 1, 2 do
    vm:restore(large)
    t:assert_eq(vm:read_file("/tmp/when"), "large")
    t:assert_contains(tostring(t:assert_raises(function() other:boot() end)), "claim", "the room is given once")
    vm:restore(small)
    t:assert(not pcall(vm.read_file, vm, "/tmp/when"))
  end
  vm:shutdown()
  other:boot{memory = "256M"}
end)
