-- The `ready` command of a profile: a boot waits until it succeeds, and templates are saved behind it.

local THREE = ("attempt\n"):rep(3)

test("a boot and a reset wait until the guest is ready", function(t)
  local vm = provium:vm("waits", "ready"):boot()
  t:assert_eq(vm:read_file("/run/attempts"), THREE)
  t:assert_eq(vm:run("hostname").stdout, "waits\n")
  vm:reset()
  t:assert_eq(vm:read_file("/run/attempts"), THREE, "the guest has booted again")
  t:assert_eq(vm:run("hostname").stdout, "waits\n")
  t:assert_near(vm:clock():get(), host.now_ns() / 1e9, 5)
end)

test("a boot from a template does not wait again", function(t)
  local first = provium:vm("first", "ready"):boot()
  local second = provium:vm("second", "ready"):boot()
  t:assert_eq(second:stats().boot_kind, "template")
  t:assert_eq(second:read_file("/run/attempts"), THREE)
  t:assert_eq(first:read_file("/run/attempts"), THREE)
end)

test("a guest that does not become ready fails its boot with the reason", function(t)
  local vm = provium:vm("unready", "unready")
  local message = t:assert_raises(function() vm:boot() end)
  t:assert_contains(tostring(message), "`echo the service does not run; exit 7`, has not succeeded")
  t:assert_contains(tostring(message), "(last: exit code 7; the service does not run)")
  t:assert_contains(tostring(message), "raise `agent_boot_timeout`")
end)
