-- The smallest useful test: boot a guest, run something in it, look at what came back.
test("the guest answers", function(t)
  local vm = provium:vm("guest", "peios"):boot()
  local result = vm:check("echo hello from $(uname -s)")
  t:assert_eq(result.stdout, "hello from Linux\n")
end)
